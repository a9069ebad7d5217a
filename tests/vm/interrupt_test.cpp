// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, kill -9 and a second vpatch, while one is at work.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

class InterruptTest : public testing::Test {
 protected:
  void SetUp() override { before_ = vm_.fingerprint(); }
  void TearDown() override {
    vm_.guest("echo release >/sys/kernel/vpatch_target/control");
    for (const char* patch : {"vpatch_target_lp", "vpatch_demo_v1"}) {
      const ProcessResult result = vm_.vpatch("revert", {patch});
      EXPECT_EQ(result.exit_code, 0) << result;
    }
    EXPECT_EQ(vm_.fingerprint(), before_);
    EXPECT_EQ(vm_.trouble(), "");
  }

  /// An apply that hangs in its transition, once the kernel runs that.
  std::unique_ptr<Process> stalled_apply() {
    vm_.guest("echo thread block >/sys/kernel/vpatch_target/control");
    auto process =
        std::make_unique<Process>(vm_.vpatch_argv("apply", {module_path("vpatch_target_lp")}));
    EXPECT_TRUE(eventually([&] {
      return process->err_so_far().find("loaded vpatch_target_lp") != std::string::npos;
    }));
    return process;
  }

  TestVm& vm_ = shared_vm();
  std::string before_;
};

TEST_F(InterruptTest, CtrlCInTheTransitionReversesIt) {
  const auto process = stalled_apply();
  process->signal(SIGINT);
  const ProcessResult result = process->wait();
  EXPECT_EQ(result.exit_code, 7) << result;
  EXPECT_THAT(result.err, HasSubstr("the guest is as before"));
  EXPECT_EQ(vm_.fingerprint(), before_);
}

TEST_F(InterruptTest, CtrlCAtAnyInstantLeavesTheGuestPatchedOrAsBefore) {
  // The instants are spread over the time a whole apply takes here.
  const std::vector<std::string> argv = vm_.vpatch_argv("apply", {module_path("vpatch_demo_v1")});
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run(argv).exit_code, 0);
  const auto whole = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(vm_.vpatch("revert").exit_code, 0);
  constexpr int kInstants = 12;
  for (int i = 0; i < kInstants; ++i) {
    Process process(argv);
    const auto instant = std::chrono::steady_clock::now() + whole * i / kInstants;
    eventually([&] { return std::chrono::steady_clock::now() >= instant || !process.running(); });
    process.signal(SIGINT);
    const ProcessResult result = process.wait();
    const bool patched = vm_.guest("ls /sys/kernel/livepatch") == "vpatch_demo_v1\n";
    fmt::print("interrupt {:2d}/{}: exit code {}, guest {}\n", i, kInstants, result.exit_code,
               patched ? "patched" : "as before");
    EXPECT_EQ(patched, result.exit_code == 0) << "instant " << i << "\n" << result;
    EXPECT_THAT(result.exit_code, testing::AnyOf(0, 3, 7, -SIGINT)) << result;
    EXPECT_EQ(vm_.guest("ls -d /run/vpatch-delivery 2>/dev/null || true"), "")
        << "instant " << i << "\n"
        << result;
    ASSERT_EQ(vm_.vpatch("revert", {"vpatch_demo_v1"}).exit_code, 0);
    ASSERT_EQ(vm_.fingerprint(), before_) << "instant " << i << "\n" << result;
  }
}

TEST_F(InterruptTest, CtrlCInTheTransferTakesTheFileAway) {
  const std::string large = padded_module("vpatch_demo_v1", std::size_t{16} << 20);
  // The guest has been read; what follows is the transfer, which takes seconds for a file of this
  // size.
  Process process(vm_.vpatch_argv("apply", {large}));
  ASSERT_TRUE(
      eventually([&] { return process.err_so_far().find("guest runs") != std::string::npos; }));
  // libvirt lets us look beside vpatch; the agent's socket of a plain QEMU serves one client only.
  ASSERT_TRUE(backend() == "qemu" || eventually([&] {
                return !vm_.guest("ls /run/vpatch-delivery 2>/dev/null || true").empty();
              }));
  process.signal(SIGINT);
  const ProcessResult result = process.wait();
  std::filesystem::remove(large);
  EXPECT_THAT(result.exit_code, testing::AnyOf(7, backend() == "qemu" ? 3 : 7)) << result;
  EXPECT_THAT(result.err, HasSubstr("interrupted")) << result;
  EXPECT_EQ(vm_.guest("ls -d /run/vpatch-delivery 2>/dev/null || true"), "") << result;
  EXPECT_EQ(vm_.fingerprint(), before_);
}

TEST_F(InterruptTest, CtrlCInARevertPutsThePatchInForceAgain) {
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_target_lp")}).exit_code, 0);
  vm_.guest("echo thread block >/sys/kernel/vpatch_target/control");
  Process process(vm_.vpatch_argv("revert", {"vpatch_target_lp"}));
  ASSERT_TRUE(eventually(
      [&] { return process.err_so_far().find("disabled vpatch_target_lp") != std::string::npos; }));
  process.signal(SIGHUP);
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.exit_code, 7) << result;
  EXPECT_THAT(result.err, HasSubstr("in force, as before"));
  EXPECT_EQ(vm_.guest("cat /sys/kernel/livepatch/vpatch_target_lp/enabled"), "1\n");
}

TEST_F(InterruptTest, LostTerminalDoesNotStopTheReversal) {
  vm_.guest("echo thread block >/sys/kernel/vpatch_target/control");
  std::string command = "exec";
  for (const std::string& word :
       vm_.vpatch_argv("apply", {"--timeout", "2", module_path("vpatch_target_lp")})) {
    command += " '" + word + "'";
  }
  const ProcessResult result = run({"/bin/sh", "-c", command + " >/dev/full 2>&-"});
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_EQ(vm_.fingerprint(), before_);
}

TEST_F(InterruptTest, ApplyAfterKillNineCarriesOn) {
  const auto process = stalled_apply();
  process->signal(SIGKILL);
  EXPECT_EQ(process->wait().exit_code, -SIGKILL);
  vm_.guest("echo release >/sys/kernel/vpatch_target/control");
  const ProcessResult again = vm_.vpatch("apply", {module_path("vpatch_target_lp")});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(vm_.guest("ls -d /run/vpatch-delivery 2>/dev/null || true"), "");
  EXPECT_EQ(vm_.guest("cat /sys/kernel/vpatch_target/value"), "patched\n");
}

TEST_F(InterruptTest, SecondVpatchOnTheDomainIsRefused) {
  if (backend() == "qemu") {
    // The sockets of a plain QEMU serve one client: the second vpatch meets silence, and says so.
    const auto process = stalled_apply();
    const ProcessResult second =
        vm_.vpatch("apply", {"--agent-timeout", "2", module_path("vpatch_demo_v1")});
    EXPECT_EQ(second.exit_code, 6) << second;
    process->signal(SIGINT);
    process->wait();
    return;
  }
  const auto process = stalled_apply();
  const ProcessResult second = vm_.vpatch("apply", {module_path("vpatch_demo_v1")});
  EXPECT_EQ(second.exit_code, 3) << second;
  EXPECT_THAT(second.err, HasSubstr("busy: vpatch apply vpatch_target_lp"));
  process->signal(SIGINT);
  process->wait();
}

}  // namespace
}  // namespace vpatch::test
