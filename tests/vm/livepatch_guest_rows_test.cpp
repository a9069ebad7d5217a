// SPDX-License-Identifier: Apache-2.0
// The second half of the table in docs/livepatch.md, row by row: what is asked of the host's tool
// rather than of the kernel.
#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/livepatch_fixture.h"

namespace vpatch::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using R10 = LivepatchTest;
using R11 = LivepatchTest;
using R12 = LivepatchTest;
using R13 = LivepatchTest;
using R14 = LivepatchTest;
using R15 = LivepatchTest;
using R16 = LivepatchTest;
using R18 = LivepatchTest;
using R19 = LivepatchTest;
using R20 = LivepatchTest;

TEST_F(R10, ForceIsConfirmedAndKeepsTheModulesUntilTheReboot) {
  const std::string patch = "vpatch_target_lp";
  const std::string name = text_of(look(vm(), "status"), "domain");
  block();
  ASSERT_EQ(apply_patch(patch, {"--timeout", "0", "--on-stall", "wait"}).exit_code, 5);
  EXPECT_EQ(change("force", {}).exit_code, 2);  // nobody there to be asked
  const Answer refused = change("force", {"--yes-i-want-to-force", "another"});
  EXPECT_EQ(refused.exit_code, 3) << refused;
  EXPECT_EQ(transition_status(), "patching " + patch);

  const Answer forced = change("force", {"--yes-i-want-to-force", name});
  ASSERT_EQ(forced.exit_code, 0) << forced;
  EXPECT_EQ(transition_status(), "none");
  EXPECT_EQ(look(vm(), "status").at("reboot_planned"), true);
  EXPECT_THAT(vm().vpatch("status").out, HasSubstr("reboot"));
  const auto recorded = history({"--limit", "1"}).at("operations").as_array().at(0).as_object();
  EXPECT_EQ(text_of(recorded, "verb"), "force");

  target("release");
  const Answer reverted = revert_patch(patch);
  EXPECT_EQ(reverted.exit_code, 0) << reverted;
  EXPECT_TRUE(reverted.found("forced-kept")) << reverted;
  EXPECT_TRUE(is_loaded(patch));
  reboot();
  EXPECT_EQ(look(vm(), "status").at("reboot_planned"), false);
}

TEST_F(R11, RevertAndApplyHideThatADisabledPatchIsGone) {
  for (int round = 0; round < 2; ++round) {
    const Answer applied = apply_patch("vpatch_indep");
    ASSERT_EQ(applied.exit_code, 0) << applied;
    const Answer reverted = revert_patch("vpatch_indep");
    ASSERT_EQ(reverted.exit_code, 0) << reverted;
    EXPECT_EQ(in_force(), "");
    EXPECT_FALSE(is_loaded("vpatch_indep"));
  }
  // The same after a disable by hand: out of sysfs, but the module is still there.
  ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
  vm().guest("echo 0 >/sys/kernel/livepatch/vpatch_indep/enabled");
  ASSERT_TRUE(eventually([] { return in_force().empty(); }));
  ASSERT_TRUE(is_loaded("vpatch_indep"));
  const Answer again = apply_patch("vpatch_indep");
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(in_force(), "vpatch_indep ");
}

TEST_F(R12, RevertCanRollForwardToAnEmptyPatch) {
  ASSERT_EQ(apply_patch("vpatch_demo_v1").exit_code, 0);
  ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
  const Answer answer = change("revert", {"--replace-with-nop", "--grace", "0"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_EQ(in_force(), "vpatch_nop ");
  EXPECT_FALSE(is_loaded("vpatch_demo_v1"));
  EXPECT_FALSE(is_loaded("vpatch_indep"));
  EXPECT_THAT(vm().guest("cat /proc/cmdline /proc/version"),
              Not(testing::ContainsRegex("vpatch_(demo|indep)=")));
}

TEST_F(R13, HistoryTellsWhoWhatWhenAndHowItEnded) {
  block();
  ASSERT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "1"}).exit_code, 4);
  const auto newest = history({"--limit", "1"}).at("operations").as_array().at(0).as_object();
  EXPECT_EQ(text_of(newest, "verb"), "apply");
  EXPECT_EQ(text_of(newest, "patch"), "vpatch_target_lp");
  EXPECT_EQ(text_of(newest, "patch_version"), "1");
  EXPECT_EQ(text_of(newest, "outcome"), "stalled-reverted");
  EXPECT_EQ(text_of(newest, "guest_release"), vm().guest("printf %s $(uname -r)"));
  const ProcessResult inspected = run({vm().vpatch_argv("inspect", {}).front(), "inspect", "--json",
                                       module_path("vpatch_target_lp")});
  const auto file = boost::json::parse(inspected.out).as_object();
  EXPECT_EQ(text_of(newest, "file_sha256"), text_of(file, "sha256"));
  EXPECT_EQ(text_of(newest, "patch_build_id"), text_of(file, "build_id"));
  for (const char* field : {"user", "started_at", "ended_at", "boot_id"}) {
    EXPECT_NE(text_of(newest, field), "") << field;
  }
  EXPECT_TRUE(newest.at("pause_us").is_number());
  const auto one = history({"--id", std::to_string(number_of(newest, "id"))});
  EXPECT_THAT(list(one, "operations"),
              testing::AllOf(HasSubstr("vpt_block"), HasSubstr("vpatch_target_block")));
  EXPECT_EQ(history({"--verify"}).at("sound"), true);
}

TEST_F(R14, StatesDecideBeforeTheKernelHasTo) {
  ASSERT_EQ(apply_patch("vpatch_cum_v2").exit_code, 0);
  const std::string before = vm().fingerprint();
  const Answer older = apply_patch("vpatch_cum_v1", {"--allow-downgrade"});
  EXPECT_EQ(older.exit_code, 3) << older;
  EXPECT_TRUE(older.found("state-older")) << older;
  const Answer lacking = apply_patch("vpatch_cum_stateless");
  EXPECT_EQ(lacking.exit_code, 3) << lacking;
  EXPECT_TRUE(lacking.found("state-missing")) << lacking;
  const Answer twice = apply_patch("vpatch_cum_twice");
  EXPECT_EQ(twice.exit_code, 3) << twice;
  EXPECT_TRUE(twice.found("duplicate-state")) << twice;
  EXPECT_EQ(vm().fingerprint(), before);
  const Answer newer = apply_patch("vpatch_cum_v3", {"--grace", "0"});
  EXPECT_EQ(newer.exit_code, 0) << newer;
}

TEST_F(R14, TheKernelRefusesTheSame) {
  ASSERT_EQ(apply_patch("vpatch_cum_v2").exit_code, 0);
  for (const char* patch : {"vpatch_cum_v1", "vpatch_cum_stateless"}) {
    vm().deliver(module_path(patch), "/tmp/older.ko");
    EXPECT_THAT(vm().guest("/sbin/insmod /tmp/older.ko 2>&1 && exit 1; rm /tmp/older.ko"),
                HasSubstr("Invalid"));
  }
}

TEST_F(R15, ShadowVariablesStayAcrossARevert) {
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(apply_patch("vpatch_callbacks_shadow").exit_code, 0);
    ASSERT_EQ(revert_patch("vpatch_callbacks_shadow").exit_code, 0);
  }
  const auto counts = logged("shadow variable: ");
  ASSERT_EQ(counts.size(), 2U);
  const auto count = [](const std::string& text) {
    return std::stoi(text.substr(text.rfind(' ')));
  };
  EXPECT_EQ(count(counts[1]), count(counts[0]) + 1);
}

TEST_F(R16, StatusShowsWhoBlocksWhereInWhichDirectionAndWhy) {
  const auto expect_blocker = [](const std::string& direction, const std::string& frame) {
    const auto status = look(vm(), "status");
    EXPECT_EQ(text_of(status.at("transition").as_object(), "direction"), direction);
    const auto& pending = status.at("pending").as_object().at("tasks").as_array();
    ASSERT_FALSE(pending.empty());
    const auto& task = pending.at(0).as_object();
    EXPECT_EQ(text_of(task, "name"), "vpt_block");
    EXPECT_EQ(vm().guest(fmt::format("cat /proc/{}/comm", number_of(task, "tid"))), "vpt_block\n");
    EXPECT_THAT(text_of(task, "state"), HasSubstr("D"));
    EXPECT_THAT(list(task, "stack"), HasSubstr(frame + "+0x"));
    EXPECT_EQ(text_of(task, "reason"), "on-stack");
    // A replacement is known by what it replaces.
    EXPECT_THAT(text_of(task, "why"), HasSubstr("vpatch_target_block"));
  };
  block();
  ASSERT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "1", "--on-stall", "wait"}).exit_code, 5);
  expect_blocker("patching", "vpatch_target_block");
  target("release");
  ASSERT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
  block();
  ASSERT_EQ(revert_patch("vpatch_target_lp", {"--timeout", "1", "--on-stall", "wait"}).exit_code,
            5);
  expect_blocker("unpatching", "patched_block");
}

class R17 : public LivepatchTest {
 protected:
  static std::string pair(const std::string& file) {
    return vm().guest("cat /sys/kernel/vpatch_pair/" + file);
  }
};

TEST_F(R17, NoTaskRunsOldAndNewCodeInOneCallChain) {
  insmod("vpatch_pair");
  vm().guest("echo start >/sys/kernel/vpatch_pair/control");
  for (int round = 0; round < 2; ++round) {
    const Answer applied = apply_patch("vpatch_pair_lp", {"--switch-after", "0"});
    ASSERT_EQ(applied.exit_code, 0) << applied;
    EXPECT_EQ(pair("call"), "2\n");
    const Answer reverted = revert_patch("vpatch_pair_lp", {"--switch-after", "0"});
    ASSERT_EQ(reverted.exit_code, 0) << reverted;
    EXPECT_EQ(pair("call"), "1\n");
  }
  EXPECT_EQ(pair("violations"), "0\n");
  EXPECT_GT(std::stol(pair("calls")), 100);
}

/// A sleeper's top frames are the scheduler's; the changed function is further down.
TEST_F(R17, TheWholeStackCountsNotItsTopFrame) {
  block();
  const ProcessResult blocking =
      vm().vpatch("stacks", {"--blocking", module_path("vpatch_target_lp")});
  ASSERT_EQ(blocking.exit_code, 0) << blocking;
  EXPECT_THAT(blocking.out, HasSubstr("vpt_block"));
  EXPECT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "1"}).exit_code, 4);
}

TEST_F(R18, LoadsOnlyWhileNobodyIsInsideANamedFunction) {
  const std::vector<std::string> options = {"--quiesce", "vpatch_target:vpatch_target_block",
                                            "--when-clear=1s"};
  block();
  const Answer refused = apply_patch("vpatch_indep", options);
  EXPECT_EQ(refused.exit_code, 3) << refused;
  EXPECT_THAT(text_of(refused.report, "summary"), HasSubstr("vpt_block")) << refused;
  EXPECT_FALSE(is_loaded("vpatch_indep"));
  target("release");
  const Answer applied = apply_patch("vpatch_indep", options);
  EXPECT_EQ(applied.exit_code, 0) << applied;
}

TEST_F(R19, HotFixesOverABaseAreListedInTheirOrder) {
  ASSERT_EQ(apply_patch("vpatch_cum_v1").exit_code, 0);
  ASSERT_EQ(apply_patch("vpatch_target_lp").exit_code, 0);
  ASSERT_EQ(apply_patch("vpatch_indep").exit_code, 0);
  std::vector<std::string> names;
  std::vector<std::string> roles;
  const auto status = look(vm(), "status");
  for (const auto& one : status.at("patches").as_array()) {
    names.push_back(text_of(one.as_object(), "name"));
    roles.push_back(text_of(one.as_object(), "role"));
  }
  EXPECT_THAT(names, ElementsAre("vpatch_cum_v1", "vpatch_target_lp", "vpatch_indep"));
  EXPECT_THAT(roles, ElementsAre("base", "addition", "addition"));
  EXPECT_EQ(text_of(status, "base"), "vpatch_cum_v1");
}

TEST_F(R20, PositionChoosesAmongFunctionsOfOneNameAndIsShown) {
  insmod("vpatch_twins");
  const Answer answer = apply_patch("vpatch_twins_lp2");
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_EQ(vm().guest("cd /sys/kernel/vpatch_twins && cat first second"),
            "original first\npatched\n");
  EXPECT_THAT(list(patch_status("vpatch_twins_lp2"), "objects"), HasSubstr("vpatch_twin,2"));
  EXPECT_THAT(vm().vpatch("status").out, HasSubstr("vpatch_twin,2"));
}

}  // namespace
}  // namespace vpatch::test
