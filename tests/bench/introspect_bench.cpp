// SPDX-License-Identifier: Apache-2.0
// How fast a guest is understood from outside: real VMs that run, idle, while they are looked at,
// as users' VMs do; nothing pauses them. Prints Google Benchmark's medians and then, for each
// kernel, what the bars are held against.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "introspect/boot/vmcoreinfo.h"
#include "introspect/guest/guest_kernel.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/kernel/cpus.h"
#include "introspect/kernel/tasks.h"
#include "tests/bench/bench_guest.h"
#include "tests/bench/core_race.h"
#include "tests/bench/summary.h"

namespace {

using namespace vpatch::bench;  // NOLINT(google-build-using-namespace): this is their program
namespace intro = vpatch::introspect;

constexpr int kRepetitions = 5;
constexpr double kMilli = 1e3;
constexpr double kMicro = 1e6;
constexpr double kColdBar = 150;       // ms, a guest of 512 MB
constexpr double kWarmBar = 10;        // ms
constexpr double kStackBar = 10;       // us a task, mapped
constexpr double kReadvStackBar = 30;  // us a task, by process_vm_readv()
constexpr double kReadvFactor = 3;     // and against mapped, in the same run
constexpr double kFlatFactor = 1.5;    // a task among 10,000 against one among 1,000
constexpr unsigned kSmallGuest = 512;  // MiB
constexpr unsigned kLargeGuest = 8192;

struct Settings {
  std::vector<std::string> kernels;
  std::string json, vmlinux;
};

/// One way of reading memory.
struct Backend {
  std::string name;
  std::function<std::unique_ptr<intro::GuestMemory>()> open;
};

std::vector<Backend> backends_of(const BenchGuest& guest) {
  return {{"mapped", [&guest] { return std::make_unique<intro::MappedMemory>(guest.map()); }},
          {"process_vm_readv",
           [&guest] { return std::make_unique<intro::ProcessMemory>(guest.attach_process()); }}};
}

/// The benchmarks of one kernel, run as soon as their guest is ready for them.
class Bench {
 public:
  Bench(std::string kernel, Collector& collector, std::vector<Figure>& figures)
      : kernel_(std::move(kernel)), collector_(collector), figures_(figures) {}

  void run(const Settings& settings);

 private:
  using Body = std::function<void(benchmark::State&)>;

  const Samples* time(const std::string& name, const Body& body);
  void tell(const std::string& name, const std::string& unit, double scale,
            std::optional<double> bar, const Body& body);
  void starts(const BenchGuest& guest, std::optional<double> cold_bar);
  void program(const BenchGuest& guest);
  void tasks(const BenchGuest& guest);
  void ratio(const std::string& what, const Samples* of, const Samples* to,
             std::optional<double> bar);

  std::string kernel_;
  Collector& collector_;
  std::vector<Figure>& figures_;
  std::vector<std::string> task_counts_;
};

const Samples* Bench::time(const std::string& name, const Body& body) {
  const std::string full = kernel_ + ": " + name;
  benchmark::ClearRegisteredBenchmarks();
  const Body guarded = [&body](benchmark::State& state) {
    try {
      body(state);
    } catch (const std::exception& error) {
      state.SkipWithError(error.what());
    }
  };
  benchmark::RegisterBenchmark(full.c_str(), guarded)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->MinTime(0.2)
      ->Repetitions(kRepetitions);
  benchmark::RunSpecifiedBenchmarks(&collector_);
  return collector_.find(full);
}

void Bench::tell(const std::string& name, const std::string& unit, double scale,
                 std::optional<double> bar, const Body& body) {
  if (const Samples* samples = time(name, body)) {
    figures_.push_back(figure_of(*samples, kernel_, name, unit, scale, bar));
    if (name.starts_with("the program")) {
      figures_.back().cpu.reset();  // it would be this process', not the program's
    }
    if (!samples->error.empty()) {
      throw std::runtime_error(fmt::format("{}: {}: {}", kernel_, name, samples->error));
    }
  }
}

void Bench::starts(const BenchGuest& guest, std::optional<double> cold_bar) {
  const std::string size =
      fmt::format("{} MB guest ({} touched)", guest.memory_mib(), guest.populated_mib());
  for (const Backend& backend : backends_of(guest)) {
    tell(fmt::format("cold, {}, {}", size, backend.name), "ms", kMilli, cold_bar,
         [&](benchmark::State& state) {
           for ([[maybe_unused]] const auto round : state) {
             const auto memory = backend.open();
             benchmark::DoNotOptimize(must(intro::GuestKernel::attach(*memory)));
           }
         });
    tell(fmt::format("  of it the VMCOREINFO scan, {} MB, {}", guest.memory_mib(), backend.name),
         "ms", kMilli, {}, [&](benchmark::State& state) {
           for ([[maybe_unused]] const auto round : state) {
             const auto memory = backend.open();
             benchmark::DoNotOptimize(must(intro::find_vmcoreinfo(*memory)));
           }
         });
    tell(fmt::format("warm, {}, {}", size, backend.name), "ms", kMilli, kWarmBar,
         [&](benchmark::State& state) {
           const auto first = backend.open();
           const intro::BootFacts facts = must(intro::GuestKernel::attach(*first))->facts();
           for ([[maybe_unused]] const auto round : state) {
             const auto memory = backend.open();
             const auto kernel = must(intro::GuestKernel::attach(*memory, facts));
             if (!kernel->from_cache()) {
               throw std::runtime_error("the facts of this boot were not used");
             }
           }
         });
  }
}

void Bench::program(const BenchGuest& guest) {
  const std::filesystem::path cache =
      std::filesystem::temp_directory_path() / ("vpatch-bench-cache-" + kernel_);
  setenv("VPATCH_BOOT_CACHE", cache.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  const auto status = [&guest] {
    const auto result = guest.vm().vpatch("status");
    if (result.exit_code != 0) {
      throw std::runtime_error(result.out + result.err);
    }
  };
  tell("the program: vpatch status, cold", "ms", kMilli, {}, [&](benchmark::State& state) {
    for ([[maybe_unused]] const auto round : state) {
      std::filesystem::remove_all(cache);
      status();
    }
  });
  tell("the program: vpatch status, warm", "ms", kMilli, {}, [&](benchmark::State& state) {
    for ([[maybe_unused]] const auto round : state) {
      status();
    }
  });
  std::filesystem::remove_all(cache);
  unsetenv("VPATCH_BOOT_CACHE");  // NOLINT(concurrency-mt-unsafe)
}

void Bench::ratio(const std::string& what, const Samples* of, const Samples* to,
                  std::optional<double> bar) {
  if (of != nullptr && to != nullptr && to->median_cpu() > 0) {
    const double one = of->median_cpu() / of->items;
    const double other = to->median_cpu() / to->items;
    figures_.push_back({kernel_, what, "times", one / other, {}, {}, bar, false, {}});
  }
}

void Bench::tasks(const BenchGuest& guest) {
  std::string count;
  std::vector<const Samples*> stacks;
  for (const Backend& backend : backends_of(guest)) {
    const auto memory = backend.open();
    const auto kernel = must(intro::GuestKernel::attach(*memory));
    const auto cpus = must(intro::read_cpus(kernel->memory(), kernel->layouts().cpus));
    const auto list = must(intro::read_tasks(kernel->memory(), kernel->layouts().tasks, cpus));
    if (count.empty()) {
      count = std::to_string(list.tasks.size());
      task_counts_.push_back(count);
    }
    tell(fmt::format("list of {} tasks, {}", count, backend.name), "us/task", kMicro, {},
         [&](benchmark::State& state) {
           std::size_t seen = 0;
           for ([[maybe_unused]] const auto round : state) {
             memory->forget();
             kernel->forget_pages();
             seen = must(intro::read_tasks(kernel->memory(), kernel->layouts().tasks, cpus))
                        .tasks.size();
           }
           state.counters["items"] = static_cast<double>(seen);
         });
    const bool mapped = backend.name == "mapped";
    const std::string name = fmt::format("stacks of {} tasks, {}", count, backend.name);
    tell(name, "us/task", kMicro, mapped ? kStackBar : kReadvStackBar,
         [&](benchmark::State& state) {
           intro::Look look;
           for ([[maybe_unused]] const auto round : state) {
             memory->forget();
             look = must(intro::look_at_stacks(*kernel, {}));
           }
           state.counters["items"] = static_cast<double>(look.tasks.size());
           state.counters["reliable"] = static_cast<double>(std::ranges::count_if(
               look.tasks, [](const auto& one) { return one.trace.reliable(); }));
         });
    stacks.push_back(collector_.find(kernel_ + ": " + name));
  }
  ratio(fmt::format("stacks of {} tasks, process_vm_readv / mapped", count), stacks[1], stacks[0],
        kReadvFactor);
}

void Bench::run(const Settings& settings) {
  {
    fmt::print("\n{}: a guest of {} MB, all its memory touched\n", kernel_, kSmallGuest);
    const BenchGuest guest(kernel_, kSmallGuest);
    guest.touch_all();
    starts(guest, kColdBar);
    program(guest);
    if (!settings.vmlinux.empty() && kernel_ == "6.1") {
      guest.add_tasks(1000);
      std::ranges::move(race_drgn(guest, kernel_, settings.vmlinux), std::back_inserter(figures_));
    }
  }
  fmt::print("\n{}: a guest of {} MB, partly touched\n", kernel_, kLargeGuest);
  const BenchGuest guest(kernel_, kLargeGuest);
  guest.touch(kLargeGuest / 4);
  starts(guest, {});
  tasks(guest);
  const std::size_t idle = std::stoul(task_counts_.front());
  guest.add_tasks(1000 - std::min<std::size_t>(idle, 900));
  tasks(guest);
  guest.add_tasks(9000);
  tasks(guest);
  for (const Backend& backend : backends_of(guest)) {
    const auto of = [&](std::size_t index) {
      return collector_.find(
          fmt::format("{}: stacks of {} tasks, {}", kernel_, task_counts_.at(index), backend.name));
    };
    ratio(fmt::format("a stack of {} against one of {}, {}", task_counts_.at(2), task_counts_.at(1),
                      backend.name),
          of(2), of(1), kFlatFactor);
  }
}

std::string load_of_host() {
  std::string text = vpatch::test::read_file("/proc/loadavg");
  return text.substr(0, text.find('\n'));
}

[[noreturn]] void misuse(std::string_view why) {
  fmt::print(
      stderr,
      "bench_introspect: {}\nusage: bench_introspect [--kernel 6.1|6.12]... [--drgn VMLINUX] "
      "[--json FILE] [--benchmark_...]\n",
      why);
  std::exit(2);  // NOLINT(concurrency-mt-unsafe): one thread
}

Settings parse(int argc, char** argv) {
  Settings settings;
  const std::vector<std::string> words(argv + 1, argv + argc);
  for (std::size_t index = 0; index < words.size(); index += 2) {
    if (index + 1 == words.size()) {
      misuse(words[index] + " needs a value");
    }
    const std::string& value = words[index + 1];
    if (words[index] == "--kernel") {
      settings.kernels.push_back(value);
    } else if (words[index] == "--json") {
      settings.json = value;
    } else if (words[index] == "--drgn") {
      settings.vmlinux = value;
    } else {
      misuse("what is " + words[index]);
    }
  }
  if (settings.kernels.empty()) {
    settings.kernels = {"6.1", "6.12"};
  }
  return settings;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const Settings settings = parse(argc, argv);
  const std::string load_before = load_of_host();
  setenv("VPATCH_VM_BACKEND", "qemu", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  Collector collector;
  std::vector<Figure> figures;
  int status = 0;
  for (const std::string& kernel : settings.kernels) {
    setenv("VPATCH_VM_KERNEL", kernel.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    try {
      Bench(kernel, collector, figures).run(settings);
    } catch (const std::exception& error) {
      fmt::print(stderr, "bench_introspect: {}: {}\n", kernel, error.what());
      status = 1;
    }
  }
  print_table(figures);
  fmt::print(
      "\nmedians of {} repetitions on running, idle guests, which nothing pauses. The bars are for "
      "cpu "
      "time, which\nis the time on the wall (median, best) of a host with a free core; load of "
      "this "
      "host {} before, {} after\n",
      kRepetitions, load_before, load_of_host());
  if (settings.vmlinux.empty()) {
    fmt::print("The comparison with drgn was not run: ./dev bench introspect --drgn runs it.\n");
  }
  if (!settings.json.empty()) {
    write_json(figures, settings.json);
  }
  return status;
}
