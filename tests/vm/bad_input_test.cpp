// SPDX-License-Identifier: Apache-2.0
// Wrong files and wrong names, each with its exit code, a message that says it, and an untouched
// guest.
#include <cstring>
#include <filesystem>
#include <functional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

std::string other_kernel() {
  return kernel() == "6.1" ? "6.12" : "6.1";
}

struct BadFile {
  std::string name;
  std::function<std::string(const std::string& good)> make;  ///< from a good livepatch's bytes
  std::string message;
};

void PrintTo(const BadFile& file, std::ostream* out) {
  *out << file.name;
}

std::vector<BadFile> bad_files() {
  std::vector<BadFile> files = {
      {"Empty", [](const std::string&) { return std::string(); }, "empty"},
      {"NotElf", [](const std::string&) { return std::string(5000, 'x'); }, "ELF"},
      {"ForAnotherMachine",
       [](std::string good) {
         good[18] = static_cast<char>(183);  // e_machine: EM_AARCH64
         return good;
       },
       "AArch64"},
      {"NoLivepatch", [](const std::string&) { return read_file(module_path("vpatch_notlp")); },
       "not a livepatch"},
      {"ForAnotherKernel",
       [](const std::string&) { return read_file(module_path("vpatch_demo_v1", other_kernel())); },
       "the livepatch is for kernel"},
  };
  for (const int percent : {1, 10, 50, 90, 99}) {
    files.push_back({fmt::format("TruncatedTo{}Percent", percent),
                     [percent](const std::string& good) {
                       return good.substr(0, good.size() * static_cast<std::size_t>(percent) / 100);
                     },
                     "error:"});
  }
  return files;
}

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedAndTheGuestUntouched) {
  TestVm& vm = shared_vm();
  const std::string before = vm.fingerprint();
  const std::string path =
      std::filesystem::temp_directory_path() / ("vpatch-bad-" + backend() + kernel() + ".ko");
  write_file(path, GetParam().make(read_file(module_path("vpatch_demo_v1"))));

  const ProcessResult result = vm.vpatch("apply", {path});
  std::filesystem::remove(path);

  EXPECT_EQ(result.exit_code, 3) << result;
  EXPECT_THAT(result.err, HasSubstr(GetParam().message)) << result;
  EXPECT_EQ(vm.fingerprint(), before);
  fmt::print("table | apply {} | {} | {}", GetParam().name, result.exit_code, result.err);
}

INSTANTIATE_TEST_SUITE_P(Files, BadFileTest, testing::ValuesIn(bad_files()),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(BadInput, MissingFileIsRefused) {
  const ProcessResult result = shared_vm().vpatch("apply", {"/nonexistent/patch.ko"});
  EXPECT_EQ(result.exit_code, 3) << result;
  EXPECT_THAT(result.err, HasSubstr("/nonexistent/patch.ko"));
}

TEST(BadInput, FileCutAtAnyByteIsRefused) {
  // The same reader that apply uses first, over every length of a real livepatch.
  const std::string good = read_file(module_path("vpatch_demo_v1"));
  ASSERT_FALSE(good.empty());
  for (std::size_t size = 0; size < good.size(); ++size) {
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), good.data(), size);
    const auto result = parse_livepatch(std::move(bytes), "cut.ko");
    ASSERT_FALSE(result.has_value())
        << "accepted when cut to " << size << " of " << good.size() << " bytes";
    EXPECT_EQ(result.error().outcome, Outcome::refused);
  }
}

TEST(BadInput, FunctionThatTheGuestLacksIsRefusedBeforeTheLoad) {
  TestVm& vm = shared_vm();
  const std::string before = vm.fingerprint();
  const ProcessResult result = vm.vpatch("apply", {module_path("vpatch_refused")});
  EXPECT_EQ(result.exit_code, 3) << result;
  EXPECT_THAT(result.err, HasSubstr("vpatch_no_such_function is not in the guest"));
  EXPECT_THAT(result.err, HasSubstr("[symbol-missing, R20]"));
  EXPECT_EQ(vm.fingerprint(), before);
}

TEST(BadInput, UnknownDomainIsUnreachable) {
  if (backend() != "libvirt") {
    const ProcessResult result = run({shared_vm().vpatch_argv("status", {}).front(), "status",
                                      "--qmp", "/nonexistent/qmp", "--qga", "/nonexistent/qga"});
    EXPECT_EQ(result.exit_code, 6) << result;
    EXPECT_THAT(result.err, HasSubstr("/nonexistent/qmp"));
    return;
  }
  const ProcessResult result = run({shared_vm().vpatch_argv("status", {}).front(), "apply",
                                    "--domain", "no-such-domain", module_path("vpatch_demo_v1")});
  EXPECT_EQ(result.exit_code, 6) << result;
  EXPECT_THAT(result.err, HasSubstr("no domain named no-such-domain"));
}

TEST(BadInput, WrongUsageIsExitCodeTwo) {
  const std::string program = shared_vm().vpatch_argv("status", {}).front();
  const std::vector<std::vector<std::string>> lines = {
      {program},
      {program, "frobnicate"},
      {program, "apply"},
      {program, "apply", "x.ko"},
      {program, "apply", "x.ko", "--domain", "a", "--qmp", "/b"},
      {program, "apply", "x.ko", "--qmp", "/b"},
      {program, "apply", "x.ko", "--domain", "a", "--timeout", "soon"},
      {program, "apply", "x.ko", "--domain", "a", "--on-stall", "panic"},
      {program, "status", "--domain"},
  };
  for (const auto& line : lines) {
    const ProcessResult result = run(line);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(line) << "\n" << result;
  }
}

}  // namespace
}  // namespace vpatch::test
