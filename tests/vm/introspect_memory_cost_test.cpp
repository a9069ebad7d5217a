// SPDX-License-Identifier: Apache-2.0
// A guest with much memory that it has never used: looking into it must not make the host pay for
// that, and must find what lies above 4 GiB on every machine type.
#include <algorithm>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "introspect/guest/stack_walk.h"
#include "introspect/memory/virtual_memory.h"
#include "tests/vm/introspect_support.h"
#include "tests/vm/look_fixture.h"

namespace vpatch::test {
namespace {

constexpr long kMemoryMib = 8192;
// Private memory grows by the large pages that QEMU asks for, and a verb that speaks to the agent
// makes the guest work.
constexpr long kSlackKib = 4096;
constexpr long kSharedSlackKib = 256;
constexpr std::chrono::seconds kQuiet{3};

struct Machine {
  std::string type;
  bool shared = true;
};

std::string name_of(const testing::TestParamInfo<Machine>& machine) {
  return machine.param.type + (machine.param.shared ? "Shared" : "Private");
}

void PrintTo(const Machine& machine, std::ostream* out) {
  *out << machine.type << (machine.shared ? ", shared" : ", private");
}

/// KiB that the host holds for the guest's memfd.
long shared_kib(pid_t qemu) {
  long kib = -1;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", qemu))) {
    struct stat status{};
    std::error_code ignored;
    const auto target = std::filesystem::read_symlink(entry, ignored).string();
    if (target.starts_with("/memfd:") && stat(entry.path().c_str(), &status) == 0 &&
        status.st_size == kMemoryMib << 20) {
      kib = status.st_blocks / 2;
    }
  }
  return kib;
}

/// KiB that the host holds for mappings that only guest memory is large enough for.
long private_kib(pid_t qemu) {
  long kib = 0;
  bool large = false;
  std::istringstream smaps(read_file(fmt::format("/proc/{}/smaps", qemu)));
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string key;
    long value = 0;
    words >> key >> value;
    if (key == "Size:") {
      large = value >= 2L << 20;
    } else if (large && (key == "Rss:" || key == "Swap:")) {
      kib += value;
    }
  }
  return kib;
}

/// RssAnon and VmSwap of the process: QEMU's own memory too, which grows as a guest runs.
long process_kib(pid_t qemu) {
  long kib = 0;
  std::istringstream status(read_file(fmt::format("/proc/{}/status", qemu)));
  for (std::string key; status >> key;) {
    if (key == "RssAnon:" || key == "VmSwap:") {
      long value = 0;
      status >> value;
      kib += value;
    }
  }
  return kib;
}

class MemoryCostTest : public testing::TestWithParam<Machine> {
 protected:
  static std::vector<std::string> flags() {
    std::vector<std::string> all = {"--memory", std::to_string(kMemoryMib), "--machine",
                                    GetParam().type};
    if (!GetParam().shared) {
      all.emplace_back("--private-memory");
    }
    return all;
  }
  static long kib(const TestVm& vm) {
    return GetParam().shared ? shared_kib(vm.pid()) : private_kib(vm.pid());
  }
};

/// How many tasks' structs lie above 4 GiB of guest memory.
std::size_t tasks_above_4g(const TestVm& vm) {
  LibraryView view(vm);
  const auto& memory = view.kernel().memory();
  const auto base = view.kernel().names().address_of("page_offset_base");
  const auto offset =
      base ? introspect::read_value<std::uint64_t>(memory, *base) : std::unexpected(base.error());
  const auto seen = introspect::look_at_stacks(view.kernel(), {});
  if (!offset || !seen) {
    throw std::runtime_error(offset ? seen.error().what : offset.error().what);
  }
  return static_cast<std::size_t>(std::ranges::count_if(seen->tasks, [&](const auto& stack) {
    const std::uint64_t phys = stack.task.address.value() - *offset;
    return phys >= 4ULL << 30 && phys < 64ULL << 30;
  }));
}

TEST_P(MemoryCostTest, LookingTakesNoMemoryOfTheHost) {
  cache_folder();
  LookTest::drop_vm();  // one guest at a time
  const TestVm vm(fmt::format("vpatch-cost-{}-{}", backend(), kernel()), flags());
  vm.guest("dd if=/dev/zero of=/tmp/fill bs=1M count=200 2>/dev/null");
  const auto where = fmt::format("cost: kernel {}, {} MiB, {}, {}", kernel(), kMemoryMib,
                                 GetParam().type, GetParam().shared ? "shared" : "private");
  const long start = kib(vm);
  ASSERT_GT(start, 200 << 10);
  ASSERT_LT(start, 1024 << 10);
  std::this_thread::sleep_for(kQuiet);
  const long quiet = std::max(kib(vm) - start, 0L);
  fmt::print("{}: {} KiB in use; quiet for {} s: +{} KiB\n", where, start, kQuiet.count(), quiet);

  const std::string patch = module_path("vpatch_demo_v1");
  const std::vector<std::vector<std::string>> looks = {
      {"status"}, {"stacks"}, {"stacks", "--paused"},
      {"log"},    {"doctor"}, {"apply", "--dry-run", patch}};
  for (const auto& words : looks) {
    const long before = kib(vm);
    const long process_before = process_kib(vm.pid());
    const ProcessResult result = vm.vpatch(words.front(), {words.begin() + 1, words.end()});
    const long grown = kib(vm) - before;
    const std::string verb = words.front() + (words.size() > 1 ? " " + words.at(1) : "");
    fmt::print("{}: {}: guest memory {:+} KiB, RssAnon+VmSwap of QEMU {:+} KiB\n", where, verb,
               grown, process_kib(vm.pid()) - process_before);
    EXPECT_EQ(result.exit_code, 0) << verb << "\n" << result;
    const bool asks_agent = words.front() == "doctor" || words.front() == "apply";
    const long slack = GetParam().shared && !asks_agent ? kSharedSlackKib : kSlackKib;
    EXPECT_LE(grown, quiet + slack) << verb;
  }
  const long all = kib(vm) - start;
  fmt::print("{}: all verbs together: {:+} KiB\n", where, all);
  EXPECT_LE(all, quiet + 2 * kSlackKib);

  const std::size_t high = tasks_above_4g(vm);
  fmt::print("{}: {} tasks above 4 GiB\n", where, high);
  EXPECT_GT(high, 0U);
  EXPECT_EQ(number_of(look(vm, "stacks", {"--task", "1"}).at("tasks").at(0).as_object(), "tid"),
            1U);
  EXPECT_EQ(text_of(look(vm, "status"), "release") + "\n", vm.guest("uname -r"));
}

INSTANTIATE_TEST_SUITE_P(Machines, MemoryCostTest,
                         testing::Values(Machine{"q35", true}, Machine{"q35", false},
                                         Machine{"pc", true}, Machine{"pc", false}),
                         name_of);

}  // namespace
}  // namespace vpatch::test
