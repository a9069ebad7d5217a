// SPDX-License-Identifier: Apache-2.0
// What an operator does on a good day, on a real guest.
#include <filesystem>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class ApplyTest : public testing::Test {
 protected:
  void SetUp() override { before_ = vm_.fingerprint(); }
  void TearDown() override {
    for (const char* patch :
         {"vpatch_indep", "vpatch_demo_v2", "vpatch_demo_v1", "vpatch_target_lp"}) {
      const ProcessResult result = vm_.vpatch("revert", {patch});
      EXPECT_EQ(result.exit_code, 0) << result;
    }
    EXPECT_EQ(vm_.fingerprint(), before_);
    EXPECT_EQ(vm_.trouble(), "");
  }

  std::string cmdline() const { return vm_.guest("cat /proc/cmdline"); }

  TestVm& vm_ = shared_vm();
  std::string before_;
};

TEST_F(ApplyTest, ChangesTheGuestsBehaviourAndRevertRestoresIt) {
  EXPECT_THAT(cmdline(), Not(HasSubstr("vpatch_demo=")));
  const ProcessResult applied = vm_.vpatch("apply", {module_path("vpatch_demo_v1")});
  ASSERT_EQ(applied.exit_code, 0) << applied;
  EXPECT_THAT(applied.out, HasSubstr("vpatch_demo_v1 is in force"));
  EXPECT_THAT(cmdline(), HasSubstr("vpatch_demo=1"));
  const ProcessResult reverted = vm_.vpatch("revert", {"vpatch_demo_v1"});
  ASSERT_EQ(reverted.exit_code, 0) << reverted;
  EXPECT_THAT(cmdline(), Not(HasSubstr("vpatch_demo=")));
}

TEST_F(ApplyTest, SecondApplyOfTheSameFileDoesNothing) {
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  const ProcessResult again = vm_.vpatch("apply", {module_path("vpatch_demo_v1")});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_THAT(again.out, HasSubstr("already in force"));
}

TEST_F(ApplyTest, ReplacePatchTakesOverAndItsPredecessorIsUnloaded) {
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  const ProcessResult applied =
      vm_.vpatch("apply", {"--json", "--grace", "1", module_path("vpatch_demo_v2")});
  ASSERT_EQ(applied.exit_code, 0) << applied;
  const auto report = boost::json::parse(applied.out).as_object();
  EXPECT_EQ(boost::json::serialize(report.at("replaced")), R"(["vpatch_demo_v1"])");
  EXPECT_EQ(boost::json::serialize(report.at("unloaded")), R"(["vpatch_demo_v1"])");
  EXPECT_THAT(cmdline(), HasSubstr("vpatch_demo=2"));
  EXPECT_EQ(vm_.guest("ls /sys/kernel/livepatch"), "vpatch_demo_v2\n");
}

TEST_F(ApplyTest, IndependentPatchesLiveSideBySideAndLeaveInAnyOrder) {
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_indep")}).exit_code, 0);
  const ProcessResult unnamed = vm_.vpatch("revert");
  EXPECT_EQ(unnamed.exit_code, 3) << unnamed;
  EXPECT_EQ(vm_.vpatch("revert", {"vpatch_demo_v1"}).exit_code, 0);
  EXPECT_EQ(vm_.guest("ls /sys/kernel/livepatch"), "vpatch_indep\n");
  EXPECT_EQ(vm_.vpatch("revert").exit_code, 0);
}

TEST_F(ApplyTest, PatchOfAModuleChangesThatModule) {
  const std::string old_value = vm_.guest("cat /sys/kernel/vpatch_target/value");
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_target_lp")}).exit_code, 0);
  EXPECT_NE(vm_.guest("cat /sys/kernel/vpatch_target/value"), old_value);
}

TEST_F(ApplyTest, LargeLivepatchArrivesWhole) {
  // libvirt once garbled transfers whose messages were larger than its socket's buffer.
  const std::string large = padded_module("vpatch_demo_v1", std::size_t{16} << 20);
  const ProcessResult applied = vm_.vpatch("apply", {large});
  std::filesystem::remove(large);
  EXPECT_EQ(applied.exit_code, 0) << applied;
}

TEST_F(ApplyTest, DryRunChangesNothing) {
  const ProcessResult result = vm_.vpatch("apply", {"--dry-run", module_path("vpatch_demo_v1")});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(vm_.fingerprint(), before_);
}

TEST_F(ApplyTest, StatusShowsWhatIsInForce) {
  ASSERT_EQ(vm_.vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  const ProcessResult status = vm_.vpatch("status", {"--json"});
  ASSERT_EQ(status.exit_code, 0) << status;
  const auto object = boost::json::parse(status.out).as_object();
  EXPECT_EQ(boost::json::serialize(object.at("release")),
            "\"" + vm_.guest("printf %s $(uname -r)") + "\"");
  const auto& patch = object.at("patches").as_array().at(0).as_object();
  EXPECT_EQ(patch.at("name"), "vpatch_demo_v1");
  EXPECT_EQ(patch.at("phase"), "patched");
}

TEST_F(ApplyTest, GuestModuleSawTheTransition) {
  const ProcessResult applied = vm_.vpatch("apply", {"--json", module_path("vpatch_demo_v1")});
  ASSERT_EQ(applied.exit_code, 0) << applied;
  EXPECT_TRUE(boost::json::parse(applied.out).as_object().at("transition_us").is_number())
      << applied;
  EXPECT_EQ(
      vm_.guest(
          "cat /sys/kernel/vpatch/state /sys/kernel/vpatch/patch /sys/kernel/vpatch/last_result"),
      "idle\nvpatch_demo_v1\npatched\n");
  ASSERT_EQ(vm_.vpatch("revert").exit_code, 0);
  EXPECT_EQ(vm_.guest("cat /sys/kernel/vpatch/state /sys/kernel/vpatch/last_result"),
            "idle\nunpatched\n");
}

TEST_F(ApplyTest, DoctorFindsNothingInTheWay) {
  const ProcessResult result = vm_.vpatch("doctor", {"--json"});
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto report = boost::json::parse(result.out).as_object();
  std::string ok;
  for (const auto& check : report.at("checks").as_array()) {
    if (check.at("health") == "ok") {
      ok += std::string(check.at("id").as_string()) + " ";
    }
  }
  for (const char* id : {"domain", "memory", "agent", "livepatch", "guest-module"}) {
    EXPECT_THAT(ok, HasSubstr(id)) << result;
  }
}

TEST_F(ApplyTest, RevertOfAPatchThatIsNotThereIsNoError) {
  const ProcessResult result = vm_.vpatch("revert", {"vpatch_demo_v1"});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_THAT(result.out, HasSubstr("nothing to revert"));
}

}  // namespace
}  // namespace vpatch::test
