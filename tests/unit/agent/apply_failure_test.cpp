// SPDX-License-Identifier: Apache-2.0
// Applies that cannot succeed, and what is left in the guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/apply.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};
const ModuleImage kOther{
    .name = "old", .build_id = "cc33", .objects = {{"vmlinux", true, {"vfs_read,1"}}}};
const ModuleImage kCumulative{.name = "p1", .build_id = "aa11", .replace = true};

Report run(OperationBench& bench, const ModuleImage& image, const ApplyOptions& options = {}) {
  bench.guest.images[image.name] = image;
  return apply(bench.context, file_of(image), options);
}

TEST(ApplyStalled, IsReverted) {
  OperationBench bench;
  bench.kernel.patching.reset();
  const Report report = run(bench, kPatch, {.timeout = seconds(5)});
  EXPECT_EQ(report.outcome, Outcome::stalled_reverted) << report.summary;
}

TEST(ApplyStalled, LeavesTheGuestAsItWas) {
  OperationBench bench;
  bench.kernel.patching.reset();
  run(bench, kPatch, {.timeout = seconds(5)});
  EXPECT_THAT(bench.kernel.patches, IsEmpty());
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
}

TEST(ApplyStalled, NamesTheBlocker) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.kernel.pending = {
      1, {{.tid = 42, .name = "dd", .state = "D (disk sleep)", .stack = {"io_schedule+0x1/0x2"}}}};
  const Report report = run(bench, kPatch, {.timeout = seconds(5)});
  EXPECT_THAT(report.summary, HasSubstr("dd (42, D (disk sleep)) in io_schedule+0x1/0x2"));
  EXPECT_EQ(report.blockers.count, 1U);
}

TEST(ApplyStalled, IsLeftPendingWhenAsked) {
  OperationBench bench;
  bench.kernel.patching.reset();
  const Report report = run(bench, kPatch, {.timeout = seconds(5), .on_stall = OnStall::wait});
  EXPECT_EQ(report.outcome, Outcome::stalled_waiting);
  ASSERT_NE(bench.kernel.find("p1"), nullptr);
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patching);
}

TEST(ApplyStalled, NeedsALookWhenItCannotBeReversedEither) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.kernel.unpatching.reset();
  EXPECT_EQ(run(bench, kPatch, {.timeout = seconds(5)}).outcome, Outcome::failed_needs_look);
}

TEST(ApplyStalled, NeedsALookWhenTheKernelRefusesToReverse) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.guest.refuse({.op = Op::set_enabled, .count = When::kForEver}, "sh: printf: I/O error");
  const Report report = run(bench, kPatch, {.timeout = seconds(5)});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("I/O error"));
}

TEST(ApplyStalled, IsDoneWhenTheTransitionEndsAtTheLastMoment) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.guest.after({.op = Op::pending_tasks, .first = 3}, [&] { bench.kernel.end_transition(); });
  EXPECT_EQ(run(bench, kPatch, {.timeout = seconds(5)}).outcome, Outcome::done);
}

TEST(ApplyStalled, NeedsALookWhenReplacedPatchesAreLost) {
  OperationBench bench;
  bench.kernel.put(kOther);
  bench.kernel.patching.reset();
  bench.guest.before({.op = Op::set_enabled}, [&] { bench.kernel.end_transition(); });
  const Report report = run(bench, kCumulative, {.timeout = seconds(5)});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look) << report.summary;
  EXPECT_THAT(report.summary, HasSubstr("old"));
}

TEST(ApplyRefusedByTheKernel, IsRestoredWithTheKernelsWords) {
  OperationBench bench;
  bench.guest.refuse({.op = Op::load}, "insmod: ERROR: Invalid module format");
  bench.guest.after({.op = Op::load},
                    [&] { bench.kernel.print("p1: disagrees about version of symbol"); });
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(report.summary, HasSubstr("Invalid module format"));
  EXPECT_THAT(report.kernel_log, Contains(HasSubstr("disagrees about version")));
}

TEST(ApplyRefusedByTheKernel, LeavesNoFile) {
  OperationBench bench;
  bench.guest.refuse({.op = Op::load}, "insmod: ERROR: Invalid module format");
  run(bench, kPatch);
  EXPECT_THAT(bench.guest.files, IsEmpty());
}

TEST(ApplyOfAModuleThatEnablesNothing, UnloadsIt) {
  OperationBench bench;
  const Report report = run(bench, {.name = "p1", .build_id = "aa11", .enables = false});
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
}

TEST(ApplyVerification, NeedsALookAtANewTaint) {
  OperationBench bench;
  bench.guest.after({.op = Op::load}, [&] { bench.kernel.tainted |= 1U << 9; });
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("tainted (W)"));
}

TEST(ApplyVerification, AcceptsATaintOfBefore) {
  OperationBench bench;
  bench.kernel.tainted = 1U << 9;
  EXPECT_EQ(run(bench, kPatch).outcome, Outcome::done);
}

TEST(ApplyVerification, NeedsALookAtAWarningInTheLog) {
  OperationBench bench;
  bench.guest.after({.op = Op::load}, [&] {
    bench.kernel.print("WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2");
  });
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.kernel_log, Contains(HasSubstr("WARNING: CPU")));
}

TEST(ApplyVerification, AcceptsAWarningOfBefore) {
  OperationBench bench;
  bench.kernel.print("WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2");
  EXPECT_EQ(run(bench, kPatch).outcome, Outcome::done);
}

TEST(ApplyVerification, SeesAWarningThoughTheLogIsReadOnlyAtTheSecondTry) {
  OperationBench bench;
  bench.guest.after({.op = Op::load}, [&] {
    bench.kernel.print("WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2");
  });
  bench.guest.fail({.op = Op::log_since});
  EXPECT_EQ(run(bench, kPatch).outcome, Outcome::failed_needs_look);
}

TEST(ApplyVerification, NeedsALookAtAnObjectThatIsNotPatched) {
  OperationBench bench;
  bench.kernel.modules["ext4"] = {.flags = ""};
  const Report report = run(
      bench, {.name = "p1", .build_id = "aa11", .objects = {{"ext4", false, {"ext4_sync_fs,1"}}}});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("ext4 is not patched"));
}

TEST(ApplyVerification, AcceptsAnObjectThatWaitsForItsModule) {
  OperationBench bench;
  const Report report = run(
      bench, {.name = "p1", .build_id = "aa11", .objects = {{"ext4", false, {"ext4_sync_fs,1"}}}});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
}

TEST(ApplyInterrupted, IsTakenBackDuringTheTransition) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.clock.schedule(seconds(2), [&] { bench.press_ctrl_c(); });
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(bench.kernel.modules, IsEmpty());
  EXPECT_LT(bench.clock.elapsed(), seconds(5));
}

TEST(ApplyWithAnAgentThatRestarts, IsDoneWhenTheLoadsReplyIsLost) {
  OperationBench bench;
  bench.guest.fail({.op = Op::load}, {.effect = Fault::Effect::whole});
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
}

TEST(ApplyWithAnAgentThatRestarts, IsDoneWhenTheLoadGoesOnWithoutIt) {
  OperationBench bench;
  bench.guest.fail({.op = Op::load}, {.effect = Fault::Effect::late});
  const Report report = run(bench, kPatch);
  bench.clock.advance(seconds(60));
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
}

TEST(ApplyWithAnAgentThatRestarts, IsDoneWhenItIsAwayDuringTheTransition) {
  OperationBench bench;
  bench.kernel.patching = seconds(4);
  bench.guest.fail({.op = Op::observe, .first = 4, .count = 8}, {.cost = milliseconds(0)});
  EXPECT_EQ(run(bench, kPatch).outcome, Outcome::done);
}

TEST(ApplyWithAnAgentThatRestarts, IsRevertedWhenTheTimeoutEndsMeanwhile) {
  OperationBench bench;
  bench.kernel.patching.reset();
  bench.guest.fail({.op = Op::observe, .first = 4, .count = 20}, {.cost = milliseconds(0)});
  const Report report = run(bench, kPatch, {.timeout = seconds(2)});
  EXPECT_EQ(report.outcome, Outcome::stalled_reverted) << report.summary;
}

TEST(ApplyWithoutAnAgent, IsUnreachable) {
  OperationBench bench;
  bench.guest.fail({.count = When::kForEver});
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::unreachable);
  EXPECT_THAT(report.hint, HasSubstr("Look at it"));
}

}  // namespace
}  // namespace vpatch
