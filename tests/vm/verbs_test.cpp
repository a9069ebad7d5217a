// SPDX-License-Identifier: Apache-2.0
// Ways out and ways back on a real guest: force, the empty livepatch, an older cumulative one; and
// the functions that a load is to leave alone.
#include <memory>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/introspect_support.h"

namespace vpatch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::unique_ptr<TestVm>& holder() {
  static std::unique_ptr<TestVm> vm;
  return vm;
}

class StopVm : public testing::Environment {
 public:
  void TearDown() override { holder().reset(); }
};

// GoogleTest owns it.
[[maybe_unused]] const testing::Environment* const kStopVm =
    testing::AddGlobalTestEnvironment(new StopVm);

class VerbsTest : public testing::Test {
 protected:
  static TestVm& vm() {
    if (holder() == nullptr) {
      cache_folder();
      holder() = std::make_unique<TestVm>(fmt::format("vpatch-verbs-{}-{}", backend(), kernel()));
      holder()->guest("/sbin/insmod /lib/modules/vpatch/vpatch_target.ko");
    }
    return *holder();
  }
  static void target(const std::string& command) {
    vm().guest(fmt::format("echo {} >/sys/kernel/vpatch_target/control", command));
  }
  /// A kernel thread that waits, uninterruptibly, inside vpatch_target_block().
  static void block_a_thread() {
    target("thread block");
    ASSERT_TRUE(eventually([] {
      return vm().guest("cat /sys/kernel/vpatch_target/state").find("blocked=1") !=
             std::string::npos;
    }));
  }
  static std::string livepatches() { return vm().guest("ls /sys/kernel/livepatch"); }
  static bool loaded(const std::string& module) {
    return vm().guest("cut -d' ' -f1 /proc/modules").find(module + "\n") != std::string::npos;
  }
};

/// A guest in which something was forced is of no use to other tests.
class ForceTest : public VerbsTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(vm().trouble(), "");
    holder().reset();
  }
  static ProcessResult force(const std::string& name) {
    return vm().vpatch("force", {"--yes-i-want-to-force", name});
  }
};

TEST_F(ForceTest, EndsAPatchingAndMarksTheGuest) {
  EXPECT_EQ(force(vm().name()).exit_code, 3) << "no transition runs";
  block_a_thread();
  const ProcessResult stalled = vm().vpatch(
      "apply", {"--timeout", "2", "--on-stall", "wait", module_path("vpatch_target_lp")});
  ASSERT_EQ(stalled.exit_code, 5) << stalled;
  EXPECT_FALSE(look(vm(), "status").at("reboot_planned").as_bool());

  const ProcessResult unconfirmed = vm().vpatch("force");
  EXPECT_EQ(unconfirmed.exit_code, 2) << unconfirmed;
  const ProcessResult wrong = force("another");
  EXPECT_EQ(wrong.exit_code, 3) << wrong;
  const auto pending = look(vm(), "status");
  EXPECT_EQ(text_of(pending.at("transition").as_object(), "direction"), "patching");

  const ProcessResult forced = force(vm().name());
  EXPECT_EQ(forced.exit_code, 0) << forced;
  EXPECT_THAT(forced.err, AllOf(HasSubstr("vpt_block"), HasSubstr("vpatch_target_block")));
  EXPECT_THAT(forced.out, HasSubstr("plan a reboot"));
  const auto status = look(vm(), "status");
  EXPECT_EQ(text_of(status.at("patches").at(0).as_object(), "phase"), "patched");
  EXPECT_TRUE(status.at("reboot_planned").as_bool());
  const auto& sign = status.at("forced").at(0).as_object();
  EXPECT_EQ(text_of(sign, "patch"), "vpatch_target_lp");
  EXPECT_EQ(text_of(sign, "sign"), "log");

  target("release");
  const ProcessResult reverted = vm().vpatch("revert", {"vpatch_target_lp"});
  EXPECT_EQ(reverted.exit_code, 0) << reverted;
  EXPECT_THAT(reverted.err, HasSubstr("stays loaded"));
  EXPECT_EQ(livepatches(), "");
  EXPECT_TRUE(loaded("vpatch_target_lp"));
  EXPECT_EQ(vm().vpatch("apply", {module_path("vpatch_target_lp")}).exit_code, 3);
  EXPECT_THAT(vm().vpatch("status").out, HasSubstr("planned"));
}

TEST_F(ForceTest, EndsAnUnpatchingAndLeavesTheModule) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_target_lp")}).exit_code, 0);
  block_a_thread();
  const ProcessResult stalled =
      vm().vpatch("revert", {"--timeout", "2", "--on-stall", "wait", "vpatch_target_lp"});
  ASSERT_EQ(stalled.exit_code, 5) << stalled;
  const ProcessResult forced = force(vm().name());
  EXPECT_EQ(forced.exit_code, 0) << forced;
  EXPECT_EQ(livepatches(), "");
  EXPECT_TRUE(loaded("vpatch_target_lp"));
  const auto status = look(vm(), "status");
  EXPECT_TRUE(status.at("reboot_planned").as_bool());
  EXPECT_EQ(text_of(status.at("forced").at(0).as_object(), "sign"), "kept-module");
  target("release");
  const ProcessResult again = vm().vpatch("revert", {"vpatch_target_lp"});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_TRUE(loaded("vpatch_target_lp"));
}

TEST_F(ForceTest, KeepsWhatAForcedReplaceHasReplaced) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_target_lp")}).exit_code, 0);
  block_a_thread();
  const ProcessResult stalled =
      vm().vpatch("apply", {"--timeout", "2", "--on-stall", "wait", module_path("vpatch_demo_v1")});
  ASSERT_EQ(stalled.exit_code, 5) << stalled;
  const ProcessResult forced = force(vm().name());
  EXPECT_EQ(forced.exit_code, 0) << forced;
  EXPECT_EQ(livepatches(), "vpatch_demo_v1\n");
  // From now on nothing is unloaded, whatever is replaced.
  const ProcessResult next = vm().vpatch("apply", {"--grace", "1", module_path("vpatch_demo_v2")});
  EXPECT_EQ(next.exit_code, 0) << next;
  EXPECT_THAT(next.err, HasSubstr("replaced modules stay loaded"));
  EXPECT_TRUE(loaded("vpatch_target_lp"));
  EXPECT_TRUE(loaded("vpatch_demo_v1"));
  target("release");
}

class WayBackTest : public VerbsTest {
 protected:
  void SetUp() override { before_ = vm().fingerprint(); }
  void TearDown() override {
    target("release");
    for (const char* patch : {"vpatch_indep", "vpatch_demo_v2", "vpatch_demo_v1", "vpatch_nop"}) {
      const ProcessResult result = vm().vpatch("revert", {patch});
      EXPECT_EQ(result.exit_code, 0) << result;
    }
    EXPECT_EQ(vm().fingerprint(), before_);
    EXPECT_EQ(vm().trouble(), "");
  }
  static std::string cmdline() { return vm().guest("cat /proc/cmdline"); }

  std::string before_;
};

TEST_F(WayBackTest, EmptyLivepatchOfTheGuestTakesThePlaceOfAll) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_indep")}).exit_code, 0);
  const ProcessResult back = vm().vpatch("revert", {"--replace-with-nop", "--grace", "1"});
  ASSERT_EQ(back.exit_code, 0) << back;
  EXPECT_THAT(back.err, HasSubstr("run their original code again"));
  EXPECT_EQ(livepatches(), "vpatch_nop\n");
  EXPECT_THAT(cmdline(), Not(HasSubstr("vpatch_demo=")));
  EXPECT_FALSE(loaded("vpatch_demo_v1"));
  EXPECT_FALSE(loaded("vpatch_indep"));
}

TEST_F(WayBackTest, EmptyLivepatchOfTheHostIsTakenWhereTheGuestHasNone) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  vm().guest("mv /lib/modules/$(uname -r)/updates /root/");
  const ProcessResult none = vm().vpatch("revert", {"--replace-with-nop"});
  EXPECT_EQ(none.exit_code, 3) << none;
  EXPECT_THAT(none.err, HasSubstr("--nop FILE"));
  const ProcessResult given = vm().vpatch(
      "revert", {"--replace-with-nop", "--nop", module_path("vpatch_nop"), "--grace", "1"});
  EXPECT_EQ(given.exit_code, 0) << given;
  EXPECT_EQ(livepatches(), "vpatch_nop\n");
  vm().guest("mv /root/updates /lib/modules/$(uname -r)/");
}

TEST_F(WayBackTest, EarlierCumulativeLivepatchTakesThePlaceOfTheLater) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_nop")}).exit_code, 0);
  const ProcessResult wrong = vm().vpatch("revert", {"--to", module_path("vpatch_indep")});
  EXPECT_EQ(wrong.exit_code, 3) << wrong;
  const ProcessResult back =
      vm().vpatch("revert", {"--to", module_path("vpatch_demo_v1"), "--grace", "1"});
  ASSERT_EQ(back.exit_code, 0) << back;
  EXPECT_THAT(cmdline(), HasSubstr("vpatch_demo=1"));
  EXPECT_EQ(livepatches(), "vpatch_demo_v1\n");
  EXPECT_FALSE(loaded("vpatch_nop"));
}

TEST_F(WayBackTest, StatusTellsTheBaseFromItsAdditions) {
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_indep")}).exit_code, 0);
  const auto status = look(vm(), "status");
  EXPECT_EQ(text_of(status, "base"), "vpatch_demo_v1");
  const auto& addition = status.at("patches").at(1).as_object();
  EXPECT_EQ(text_of(addition, "name"), "vpatch_indep");
  EXPECT_EQ(text_of(addition, "role"), "addition");
  EXPECT_EQ(number_of(addition, "order"), 2U);
  EXPECT_THAT(vm().vpatch("status").out,
              AllOf(HasSubstr("patched, base"), HasSubstr("patched, addition 1")));
}

TEST_F(WayBackTest, LoadWaitsUntilNobodyIsInAFunctionToBeLeftAlone) {
  const std::string demo = module_path("vpatch_demo_v1");
  const ProcessResult unknown = vm().vpatch("apply", {"--quiesce", "no_such_function", demo});
  EXPECT_EQ(unknown.exit_code, 3) << unknown;
  block_a_thread();
  const std::string function = "vpatch_target:vpatch_target_block";
  const ProcessResult busy = vm().vpatch("apply", {"--quiesce", function, "--when-clear=1", demo});
  EXPECT_EQ(busy.exit_code, 3) << busy;
  EXPECT_THAT(busy.err, HasSubstr("vpatch_target_block"));
  EXPECT_FALSE(loaded("vpatch_demo_v1"));
  target("release");
  const ProcessResult clear = vm().vpatch("apply", {"--json", "--quiesce", function, demo});
  EXPECT_EQ(clear.exit_code, 0) << clear;
  EXPECT_THAT(clear.out, Not(HasSubstr("quiesce-reentered")));
}

}  // namespace
}  // namespace vpatch::test
