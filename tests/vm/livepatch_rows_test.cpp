// SPDX-License-Identifier: Apache-2.0
// The first half of the table in docs/livepatch.md, row by row: replace, downgrade, callbacks,
// objects, order, direction.
#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/livepatch_fixture.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

using R1 = LivepatchTest;
using R3 = LivepatchTest;
using R4 = LivepatchTest;
using R5 = LivepatchTest;
using R6 = LivepatchTest;
using R7 = LivepatchTest;
using R8 = LivepatchTest;
using R9 = LivepatchTest;

TEST_F(R1, ReplaceTakesOverInOneTransition) {
  ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
  ASSERT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
  // Disabled, but its module stays loaded.
  vm().guest("echo 0 >/sys/kernel/livepatch/vpatch_indep/enabled");
  ASSERT_TRUE(eventually([] { return in_force() == "vpatch_target_lp "; }));

  const Answer answer = apply_patch("vpatch_cum_v1", {"--grace", "0"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_EQ(list(answer.report, "replaced"), R"(["vpatch_target_lp"])") << answer;
  EXPECT_EQ(in_force(), "vpatch_cum_v1 ");
  EXPECT_EQ(look(vm(), "status").at("patches").as_array().size(), 1U);
  EXPECT_THAT(logged("'vpatch_cum_v1': starting patching transition"), SizeIs(1));
  // One for the patch that was disabled by hand, none for the one that was replaced.
  EXPECT_THAT(logged("starting unpatching transition"), SizeIs(1));
  EXPECT_THAT(cmdline(), HasSubstr("vpatch_demo=cum1"));
  EXPECT_EQ(vm().guest("cat /sys/kernel/vpatch_target/value"), "original\n");
}

class R2 : public LivepatchTest {
 protected:
  static std::string execdomains() { return vm().guest("cat /proc/execdomains"); }
  /// The line that ftrace has of a function while something is hooked into it.
  static std::string hook(const std::string& function) {
    return vm().guest("grep '^" + function +
                      " ' /sys/kernel/debug/tracing/enabled_functions || true");
  }
};

TEST_F(R2, FunctionNoLongerChangedIsTheOriginalAgainAndHasNoHook) {
  const std::string original = execdomains();
  EXPECT_EQ(hook("execdomains_proc_show"), "");
  ASSERT_EQ(apply_patch("vpatch_cum_v2").exit_code, 0);
  EXPECT_THAT(execdomains(), HasSubstr("vpatch_demo=cum2"));
  EXPECT_NE(hook("execdomains_proc_show"), "");

  const Answer answer = apply_patch("vpatch_cum_v3", {"--grace", "0"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_EQ(execdomains(), original);
  EXPECT_EQ(hook("execdomains_proc_show"), "");
  EXPECT_NE(hook("cmdline_proc_show"), "");
}

TEST_F(R3, ReplacedModuleIsUnloadedAfterTheGraceTime) {
  ASSERT_EQ(apply_patch("vpatch_cum_v1").exit_code, 0);
  const Answer answer = apply_patch("vpatch_cum_v2", {"--grace", "2"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_GE(number_of(answer.report, "elapsed_ms"), 2000U) << answer;
  EXPECT_EQ(list(answer.report, "unloaded"), R"(["vpatch_cum_v1"])") << answer;
  EXPECT_FALSE(is_loaded("vpatch_cum_v1"));
}

TEST_F(R3, WarningInTheGraceTimeKeepsTheReplacedModule) {
  ASSERT_EQ(apply_patch("vpatch_demo_v1").exit_code, 0);
  const Answer answer = apply_patch("vpatch_cum_warn", {"--grace", "60"});
  EXPECT_EQ(answer.exit_code, 8) << answer;
  EXPECT_TRUE(answer.found("replaced-kept")) << answer;
  EXPECT_THAT(text_of(answer.report, "summary"),
              testing::AnyOf(HasSubstr("tainted (W)"), HasSubstr("tells of trouble")))
      << answer;
  EXPECT_LT(number_of(answer.report, "elapsed_ms"), 50'000U) << answer;
  EXPECT_TRUE(is_loaded("vpatch_demo_v1"));
  EXPECT_EQ(in_force(), "vpatch_cum_warn ");
  vm().guest("dmesg -c >/dev/null");  // it was to warn
}

/// Without states or callbacks an older version may come back; vpatch only says that it is older.
TEST_F(R4, DowngradeIsNamed) {
  ASSERT_EQ(apply_patch("vpatch_cum_stateless").exit_code, 0);
  const Answer answer = apply_patch("vpatch_demo_v1", {"--grace", "0"});
  EXPECT_EQ(answer.exit_code, 0) << answer;
  EXPECT_TRUE(answer.found("downgrade")) << answer;
  EXPECT_EQ(in_force(), "vpatch_demo_v1 ");
}

TEST_F(R4, UnsafeDowngradeIsRefusedUnlessAllowed) {
  ASSERT_EQ(apply_patch("vpatch_callbacks_replace").exit_code, 0);
  const Answer refused = apply_patch("vpatch_demo_v1", {"--grace", "0"});
  EXPECT_EQ(refused.exit_code, 3) << refused;
  EXPECT_TRUE(refused.found("downgrade")) << refused;
  EXPECT_THAT(refused.hint_of("downgrade"), HasSubstr("--allow-downgrade")) << refused;
  EXPECT_EQ(in_force(), "vpatch_callbacks_replace ");
  const Answer allowed = apply_patch("vpatch_demo_v1", {"--grace", "0", "--allow-downgrade"});
  EXPECT_EQ(allowed.exit_code, 0) << allowed;
  EXPECT_EQ(in_force(), "vpatch_demo_v1 ");
}

TEST_F(R5, OnAReplaceOnlyTheNewCallbacksRun) {
  ASSERT_EQ(apply_patch("vpatch_callbacks").exit_code, 0);
  const Answer answer = apply_patch("vpatch_callbacks_replace", {"--grace", "0"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  for (const std::string& text : callbacks()) {
    EXPECT_THAT(text, Not(testing::MatchesRegex("vpatch_callbacks: p.*unpatch.*")));
  }
  EXPECT_THAT(callbacks(), testing::Contains("vpatch_callbacks_replace: post_patch: vmlinux"));
}

TEST_F(R5, FailingPrePatchCallbackShowsItsErrorAndLeavesTheGuestUnpatched) {
  const Answer answer = apply_patch("vpatch_callbacks_fail");
  EXPECT_EQ(answer.exit_code, 7) << answer;
  EXPECT_THAT(text_of(answer.report, "summary"), HasSubstr("No such device")) << answer;
  EXPECT_THAT(list(answer.report, "kernel_log"), HasSubstr("pre-patch callback failed")) << answer;
  EXPECT_EQ(vm().fingerprint(), before_);
}

TEST_F(R6, ModuleNotLoadedYetIsPatchedWhenItLoads) {
  rmmod("vpatch_target");
  const Answer answer = apply_patch("vpatch_target_lp");
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_TRUE(answer.found("target-not-loaded", "vpatch_target")) << answer;
  const auto object = [] {
    return patch_status("vpatch_target_lp").at("objects").as_array().at(0).as_object();
  };
  EXPECT_EQ(object().at("patched"), false);
  EXPECT_EQ(object().at("waiting"), true);
  EXPECT_THAT(vm().vpatch("status").out, HasSubstr("waiting for the module"));
  insmod("vpatch_target");
  EXPECT_EQ(object().at("patched"), true);
  EXPECT_EQ(object().at("waiting"), false);
  EXPECT_EQ(vm().guest("cat /sys/kernel/vpatch_target/value"), "patched\n");
}

TEST_F(R6, ModuleThatACallbackRefusesIsShown) {
  rmmod("vpatch_target");
  ASSERT_EQ(apply_patch("vpatch_callbacks").exit_code, 0);
  vm().guest("echo -19 >/sys/module/vpatch_callbacks/parameters/pre_patch_ret");
  EXPECT_THAT(refused_insmod("vpatch_target"), HasSubstr("No such device"));
  EXPECT_THAT(list(look(vm(), "status"), "refused_modules"),
              HasSubstr(R"({"patch":"vpatch_callbacks","module":"vpatch_target"})"));
}

TEST_F(R7, IndependentPatchesLeaveInAnyOrder) {
  for (const auto& [first, second] : {std::pair{"vpatch_indep", "vpatch_target_lp"},
                                      std::pair{"vpatch_target_lp", "vpatch_indep"}}) {
    ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
    ASSERT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
    EXPECT_EQ(revert_patch(first).exit_code, 0);
    EXPECT_EQ(in_force(), std::string(second) + " ");
    EXPECT_EQ(revert_patch(second).exit_code, 0);
    EXPECT_EQ(vm().fingerprint(), before_);
  }
}

TEST_F(R7, SecondChangeOfAFunctionIsRefusedUnlessInsistedUpon) {
  ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
  const Answer refused = apply_patch("vpatch_indep2");
  EXPECT_EQ(refused.exit_code, 3) << refused;
  EXPECT_TRUE(refused.found("function-conflict", "version_proc_show")) << refused;
  EXPECT_THAT(refused.hint_of("function-conflict"), HasSubstr("--allow-stacking")) << refused;
  EXPECT_FALSE(is_loaded("vpatch_indep2"));

  const Answer stacked = apply_patch("vpatch_indep2", {"--allow-stacking"});
  ASSERT_EQ(stacked.exit_code, 0) << stacked;
  EXPECT_THAT(vm().guest("cat /proc/version"), HasSubstr("vpatch_indep=2"));
  // The newest is in force whatever was below it.
  EXPECT_EQ(revert_patch("vpatch_indep").exit_code, 0);
  EXPECT_THAT(vm().guest("cat /proc/version"), HasSubstr("vpatch_indep=2"));
}

TEST_F(R8, StatusNamesTheDirectionAndPatchingCanBeReversed) {
  block();
  ASSERT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "0", "--on-stall", "wait"}).exit_code, 5);
  EXPECT_EQ(transition_status(), "patching vpatch_target_lp");
  // Old code is what the blocked thread is in: going back does not have to wait for it.
  const Answer back = revert_patch("vpatch_target_lp");
  EXPECT_EQ(back.exit_code, 0) << back;
  EXPECT_EQ(transition_status(), "none");
  EXPECT_EQ(in_force(), "");
}

TEST_F(R8, StatusNamesTheDirectionAndUnpatchingCanBeReversed) {
  ASSERT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
  block();
  const Answer stalled = revert_patch("vpatch_target_lp", {"--timeout", "1", "--on-stall", "wait"});
  ASSERT_EQ(stalled.exit_code, 5) << stalled;
  EXPECT_EQ(transition_status(), "unpatching vpatch_target_lp");
  // By the kernel's own means: for vpatch an unpatch that was left pending is meant to end.
  vm().guest("echo 1 >/sys/kernel/livepatch/vpatch_target_lp/enabled");
  EXPECT_TRUE(eventually([] { return transition_status() == "none"; }));

  const Answer reversed = revert_patch("vpatch_target_lp", {"--timeout", "1"});
  EXPECT_EQ(reversed.exit_code, 4) << reversed;
  EXPECT_EQ(text_of(patch_status("vpatch_target_lp"), "phase"), "patched");
}

TEST_F(R9, BusyNamesTheRunningTransition) {
  block();
  ASSERT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "0", "--on-stall", "wait"}).exit_code, 5);
  const Answer other = apply_patch("vpatch_indep");
  EXPECT_EQ(other.exit_code, 3) << other;
  EXPECT_TRUE(other.found("busy-transition", "patching vpatch_target_lp")) << other;
  EXPECT_FALSE(is_loaded("vpatch_indep"));
  target("release");
  EXPECT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
  const Answer again = apply_patch("vpatch_indep");
  EXPECT_EQ(again.exit_code, 0) << again;
}

}  // namespace
}  // namespace vpatch::test
