// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/revert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};
const ModuleImage kOther{.name = "p2", .build_id = "cc33"};

TEST(Revert, TakesItsStepsInOrder) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching = milliseconds(0);
  revert(bench.context, {.patch = "p1"});
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "log_mark", "set_enabled p1 0", "observe",
                                             "unload p1", "observe", "observe", "log_since"));
}

TEST(Revert, TakesThePatchOutOfForce) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  const Report report = revert(bench.context, {.patch = "p1"});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(bench.kernel.patches, IsEmpty());
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
}

TEST(Revert, ChoosesTheOnlyPatch) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  EXPECT_EQ(revert(bench.context, {}).patch, "p1");
}

TEST(Revert, RefusesToChooseAmongSeveral) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.put(kOther);
  const Report report = revert(bench.context, {});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("p1 p2"));
}

TEST(Revert, LeavesOtherPatchesAlone) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.put(kOther);
  revert(bench.context, {.patch = "p1"});
  ASSERT_NE(bench.kernel.find("p2"), nullptr);
  EXPECT_EQ(bench.kernel.find("p2")->phase(), PatchPhase::patched);
}

TEST(Revert, HasNothingToDoWithoutPatches) {
  OperationBench bench;
  EXPECT_EQ(revert(bench.context, {}).outcome, Outcome::done);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST(Revert, HasNothingToDoWhenThePatchIsNotLoaded) {
  OperationBench bench;
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST(Revert, RefusesAModuleThatIsNoLivepatch) {
  OperationBench bench;
  bench.kernel.modules["ext4"] = {.flags = ""};
  EXPECT_EQ(revert(bench.context, {.patch = "ext4"}).outcome, Outcome::refused);
  EXPECT_TRUE(bench.kernel.modules.contains("ext4"));
}

TEST(Revert, RefusesDuringTheTransitionOfAnotherPatch) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.put(kOther, true);
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST(Revert, UnloadsAModuleLeftLoaded) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.build_id = "aa11"};
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
}

TEST(Revert, FinishesAnUnpatchingThatRunsAlready) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.write_enabled("p1", false);
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
  EXPECT_FALSE(called(bench.guest, "set_enabled p1 0"));
}

TEST(Revert, ReversesAPatchingThatRuns) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.kernel.put(kPatch, true);
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
  EXPECT_THAT(bench.kernel.patches, IsEmpty());
}

TEST(Revert, WaitsForTheModulesLastReference) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.reference_linger = seconds(2);
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
}

TEST(Revert, NeedsALookWhenTheModuleStaysBusy) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.guest.refuse({.op = Op::unload, .count = When::kForEver},
                     "rmmod: ERROR: Module p1 is in use");
  const Report report = revert(bench.context, {.patch = "p1"});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("Module p1 is in use"));
}

TEST(Revert, IsAsBeforeWhenTheKernelRefuses) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.guest.refuse({.op = Op::set_enabled}, "sh: printf: I/O error");
  const Report report = revert(bench.context, {.patch = "p1"});
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patched);
}

TEST(Revert, NeedsALookAtAWarningInTheLog) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.guest.after({.op = Op::set_enabled},
                    [&] { bench.kernel.print("BUG: unable to handle page fault"); });
  const Report report = revert(bench.context, {.patch = "p1"});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.kernel_log, Contains(HasSubstr("BUG:")));
  EXPECT_TRUE(report.taken_out);
}

TEST(Revert, DoesNotTakeAnOldWarningForANewOne) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.print("BUG: unable to handle page fault");
  bench.guest.fail({.op = Op::log_mark});
  EXPECT_NE(revert(bench.context, {.patch = "p1"}).outcome, Outcome::failed_needs_look);
}

TEST(RevertStalled, PutsThePatchInForceAgain) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching.reset();
  const Report report = revert(bench.context, {.patch = "p1", .timeout = seconds(5)});
  EXPECT_EQ(report.outcome, Outcome::stalled_reverted) << report.summary;
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patched);
  EXPECT_FALSE(report.taken_out);
}

TEST(RevertStalled, IsLeftPendingWhenAsked) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching.reset();
  const Report report =
      revert(bench.context, {.patch = "p1", .timeout = seconds(5), .on_stall = OnStall::wait});
  EXPECT_EQ(report.outcome, Outcome::stalled_waiting);
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::unpatching);
  EXPECT_TRUE(report.taken_out);
}

TEST(RevertStalled, IsDoneWhenTheTransitionEndsAtTheLastMoment) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching.reset();
  bench.guest.before({.op = Op::set_enabled, .first = 2}, [&] { bench.kernel.end_transition(); });
  EXPECT_EQ(revert(bench.context, {.patch = "p1", .timeout = seconds(5)}).outcome, Outcome::done);
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
}

TEST(RevertStalled, NeedsALookWhenItCannotBePutInForceAgain) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching.reset();
  bench.kernel.patching.reset();
  EXPECT_EQ(revert(bench.context, {.patch = "p1", .timeout = seconds(5)}).outcome,
            Outcome::failed_needs_look);
}

TEST(RevertInterrupted, PutsThePatchInForceAgain) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  bench.kernel.unpatching.reset();
  bench.clock.schedule(seconds(2), [&] { bench.press_ctrl_c(); });
  const Report report = revert(bench.context, {.patch = "p1"});
  EXPECT_EQ(report.outcome, Outcome::failed_restored) << report.summary;
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patched);
}

}  // namespace
}  // namespace vpatch
