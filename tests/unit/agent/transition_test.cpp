// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/transition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/patience.h"
#include "vmm-agent/operation/status.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};

TEST(AwaitTransition, EndsWithTheTransition) {
  OperationBench bench;
  bench.kernel.patching = seconds(3);
  bench.kernel.put(kPatch, true);
  const auto end = await_transition(bench.context, "p1", seconds(60), true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->how, TransitionEnd::How::ended);
  EXPECT_LT(bench.clock.elapsed(), seconds(4));
}

TEST(AwaitTransition, EndsAtOnceForAPatchThatIsGone) {
  OperationBench bench;
  const auto end = await_transition(bench.context, "p1", seconds(60), true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->how, TransitionEnd::How::ended);
  EXPECT_FALSE(end->patch);
}

TEST(AwaitTransition, TimesOutAtItsLimit) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.kernel.put(kPatch, true);
  const auto end = await_transition(bench.context, "p1", seconds(10), true);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->how, TransitionEnd::How::timed_out);
  EXPECT_LT(bench.clock.elapsed(), seconds(11));
}

TEST(AwaitTransition, DoesNotListenToCtrlCWhenToldSo) {
  OperationBench bench;
  bench.kernel.patching = seconds(3);
  bench.kernel.put(kPatch, true);
  bench.press_ctrl_c();
  const auto end = await_transition(bench.context, "p1", seconds(60), false);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->how, TransitionEnd::How::ended);
}

TEST(AwaitTransition, NamesTheBlockersWhileItWaits) {
  OperationBench bench;
  bench.kernel.patching = seconds(3);
  bench.kernel.pending = {1, {{.tid = 42, .name = "dd", .state = "D (disk sleep)", .stack = {}}}};
  bench.kernel.put(kPatch, true);
  ASSERT_TRUE(await_transition(bench.context, "p1", seconds(60), true));
  EXPECT_THAT(bench.reporter.progresses,
              testing::Contains(testing::HasSubstr("1 pending: dd (42, D (disk sleep))")));
}

TEST(TakeBack, ReversesTheTransitionAndUnloads) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.kernel.put(kPatch, true);
  EXPECT_TRUE(take_back(bench.context, "p1"));
  EXPECT_FALSE(bench.kernel.modules.contains("p1"));
}

TEST(UnloadModule, IsOkWhenTheModuleIsGoneAlready) {
  OperationBench bench;
  EXPECT_TRUE(unload_module(bench.context, "p1"));
}

TEST(UnloadModule, GivesUpOnABusyModule) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.references = 1};
  const auto unloaded = unload_module(bench.context, "p1");
  ASSERT_FALSE(unloaded);
  EXPECT_THAT(unloaded.error().what, testing::HasSubstr("Module p1 is in use"));
  EXPECT_LT(bench.clock.elapsed(), seconds(15));
}

TEST(UnloadModule, GivesUpOnAnRmmodThatHangs) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.references = 1};
  bench.guest.fail({.op = Op::unload, .count = When::kForEver});
  EXPECT_FALSE(unload_module(bench.context, "p1"));
  EXPECT_LT(bench.clock.elapsed(), seconds(90));
}

TEST(ObservePatiently, OutlastsAnAgentThatRestarts) {
  OperationBench bench;
  bench.guest.fail({.op = Op::observe, .count = 20}, {.cost = milliseconds(100)});
  EXPECT_TRUE(observe_patiently(bench.context));
}

TEST(ObservePatiently, GivesUpOnADeadAgent) {
  OperationBench bench;
  bench.guest.fail({.count = When::kForEver});
  EXPECT_FALSE(observe_patiently(bench.context));
  EXPECT_LT(bench.clock.elapsed(), seconds(60));
}

TEST(ObservePatiently, TriesTwiceHoweverLongOneTryTakes) {
  OperationBench bench;
  bench.guest.fail({.op = Op::observe}, {.cost = seconds(120)});
  EXPECT_TRUE(observe_patiently(bench.context));
}

TEST(Describe, NamesTaskStateAndInnermostFrame) {
  EXPECT_EQ(describe({.tid = 42,
                      .name = "dd",
                      .state = "D (disk sleep)",
                      .stack = {"a+0x1/0x2", "b+0x1/0x2"}}),
            "dd (42, D (disk sleep)) in a+0x1/0x2");
}

TEST(Describe, LeavesOutWhatIsUnknown) {
  EXPECT_EQ(describe({.tid = 42, .name = "dd", .state = "", .stack = {}}), "dd (42)");
}

TEST(MeasuredTransition, IsUnsetForGarbage) {
  GuestState state;
  state.guest_module = {
      {"patch", "p1"}, {"last_result", "patched"}, {"last_transition_us", "soon"}};
  EXPECT_EQ(measured_transition(state, "p1", "patched"), std::nullopt);
}

TEST(MeasuredTransition, IsUnsetForTheOtherDirection) {
  GuestState state;
  state.guest_module = {{"patch", "p1"}, {"last_result", "patched"}, {"last_transition_us", "5"}};
  EXPECT_EQ(measured_transition(state, "p1", "unpatched"), std::nullopt);
}

TEST(ReadStatus, NamesTheTasksOfARunningTransition) {
  OperationBench bench;
  bench.kernel.pending = {1, {{.tid = 42, .name = "dd", .state = "", .stack = {}}}};
  bench.kernel.put(kPatch, true);
  const auto status = ask_status(bench.context);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->pending.value_or(PendingTasks{}).count, 1U);
}

TEST(ReadStatus, ShowsTheGuestThoughItsTasksCannotBeRead) {
  OperationBench bench;
  bench.kernel.put(kPatch, true);
  bench.guest.fail({.op = Op::pending_tasks});
  const auto status = ask_status(bench.context);
  ASSERT_TRUE(status);
  EXPECT_FALSE(status->pending);
}

TEST(ReadStatus, DoesNotAskForTasksWithoutATransition) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  ASSERT_TRUE(ask_status(bench.context));
  EXPECT_THAT(bench.guest.calls, testing::ElementsAre("observe"));
}

}  // namespace
}  // namespace vpatch
