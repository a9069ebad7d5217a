// SPDX-License-Identifier: Apache-2.0
// Transitions that cannot end: a kernel thread waits, uninterruptibly, inside a function that the
// patch changes.
#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

class StallTest : public testing::Test {
 protected:
  void SetUp() override { before_ = vm_.fingerprint(); }
  void TearDown() override {
    vm_.guest("echo release >/sys/kernel/vpatch_target/control");
    const ProcessResult result = vm_.vpatch("revert", {"vpatch_target_lp"});
    EXPECT_EQ(result.exit_code, 0) << result;
    EXPECT_EQ(vm_.fingerprint(), before_);
    EXPECT_EQ(vm_.trouble(), "");
  }

  void block_a_thread() {
    vm_.guest("echo thread block >/sys/kernel/vpatch_target/control");
    ASSERT_TRUE(eventually([this] {
      return vm_.guest("cat /sys/kernel/vpatch_target/state").find("blocked=1") !=
             std::string::npos;
    }));
  }
  std::string phase() const {
    const auto status = boost::json::parse(vm_.vpatch("status", {"--json"}).out).as_object();
    const auto& patches = status.at("patches").as_array();
    return patches.empty() ? "none" : std::string(patches.at(0).at("phase").as_string());
  }

  TestVm& vm_ = shared_vm();
  std::string before_;
  const std::string patch_ = module_path("vpatch_target_lp");
};

TEST_F(StallTest, ApplyRevertsAndNamesTheBlocker) {
  block_a_thread();
  const ProcessResult result = vm_.vpatch("apply", {"--timeout", "3", patch_});
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_THAT(result.err, HasSubstr("vpt_block"));
  EXPECT_THAT(result.err, HasSubstr("vpatch_target_block"));
  EXPECT_THAT(result.err, HasSubstr("the guest is as before"));
  EXPECT_EQ(vm_.fingerprint(), before_);
}

TEST_F(StallTest, ApplyLeavesItPendingWhenAskedAndEndsWithTheBlocker) {
  block_a_thread();
  const ProcessResult result =
      vm_.vpatch("apply", {"--timeout", "1", "--on-stall", "wait", patch_});
  EXPECT_EQ(result.exit_code, 5) << result;
  // Within that second not everybody else need have moved: the kernel itself goes on.
  ProcessResult status;
  EXPECT_TRUE(eventually([&] {
    status = vm_.vpatch("status");
    return status.out.find("patching vpatch_target_lp, 1 task(s) pending") != std::string::npos;
  })) << status;
  EXPECT_THAT(status.out, HasSubstr("vpt_block")) << status;

  // Another patch has to wait, and is told for whom.
  const ProcessResult other = vm_.vpatch("apply", {module_path("vpatch_demo_v1")});
  EXPECT_EQ(other.exit_code, 3) << other;
  EXPECT_THAT(other.err, HasSubstr("vpatch_target_lp"));

  vm_.guest("echo release >/sys/kernel/vpatch_target/control");
  const ProcessResult again = vm_.vpatch("apply", {patch_});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(phase(), "patched");
}

TEST_F(StallTest, RevertPutsThePatchInForceAgain) {
  ASSERT_EQ(vm_.vpatch("apply", {patch_}).exit_code, 0);
  block_a_thread();
  const ProcessResult result = vm_.vpatch("revert", {"--timeout", "1"});
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_THAT(result.err, HasSubstr("vpt_block"));
  EXPECT_EQ(phase(), "patched");
}

TEST_F(StallTest, RunningTransitionCanBeReverted) {
  block_a_thread();
  ASSERT_EQ(vm_.vpatch("apply", {"--timeout", "0", "--on-stall", "wait", patch_}).exit_code, 5);
  const ProcessResult result = vm_.vpatch("revert");
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(phase(), "none");
}

}  // namespace
}  // namespace vpatch::test
