// SPDX-License-Identifier: Apache-2.0
// What an apply does when all goes well, and what it finds to do in guests of different kinds.
#include "vmm-agent/operation/apply.h"

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
const ModuleImage kOther{
    .name = "old", .build_id = "cc33", .objects = {{"vmlinux", true, {"vfs_read,1"}}}};
const ModuleImage kCumulative{.name = "p1", .build_id = "aa11", .replace = true};

Report run(OperationBench& bench, const ModuleImage& image, const ApplyOptions& options = {}) {
  bench.guest.images[image.name] = image;
  return apply(bench.context, file_of(image), options);
}

TEST(Apply, TakesItsStepsInOrder) {
  OperationBench bench;
  bench.kernel.patching = milliseconds(0);
  run(bench, kPatch);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "log_mark", "deliver p1", "load p1",
                                             "observe", "observe", "observe", "log_since"));
}

TEST(Apply, PutsThePatchInForce) {
  OperationBench bench;
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  ASSERT_NE(bench.kernel.find("p1"), nullptr);
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patched);
}

TEST(Apply, LeavesNoFileInTheGuest) {
  OperationBench bench;
  run(bench, kPatch);
  EXPECT_THAT(bench.guest.files, IsEmpty());
}

TEST(Apply, ReportsTheTransitionTheGuestModuleMeasured) {
  OperationBench bench;
  bench.kernel.guest_module = {
      {"patch", "p1"}, {"last_result", "patched"}, {"last_transition_us", "1500"}};
  EXPECT_EQ(run(bench, kPatch).transition_us, 1500U);
}

TEST(Apply, IgnoresTheMeasurementOfAnotherPatch) {
  OperationBench bench;
  bench.kernel.guest_module = {
      {"patch", "p0"}, {"last_result", "patched"}, {"last_transition_us", "1500"}};
  EXPECT_EQ(run(bench, kPatch).transition_us, std::nullopt);
}

TEST(Apply, DoesNothingWhenThePatchIsInForce) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "module_build_id p1", "remove_delivered"));
}

TEST(Apply, JoinsATransitionOfTheSameBuild) {
  OperationBench bench;
  bench.kernel.put(kPatch, true);
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_FALSE(called(bench.guest, "load p1"));
}

TEST(Apply, JoiningRemovesTheFileOfTheRunThatWasKilled) {
  OperationBench bench;
  bench.kernel.put(kPatch, true);
  bench.guest.files = {"p1"};
  run(bench, kPatch);
  EXPECT_THAT(bench.guest.files, IsEmpty());
}

TEST(Apply, RefusesAnotherBuildOfALoadedPatch) {
  OperationBench bench;
  bench.kernel.put({.name = "p1", .build_id = "bb22"});
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "module_build_id p1"));
}

TEST(Apply, UnloadsAStaleModuleFirst) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.build_id = "bb22"};
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_EQ(bench.kernel.modules.at("p1").build_id, "aa11");
}

TEST(Apply, RefusesWhenAStaleModuleCannotBeUnloaded) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.build_id = "bb22", .references = 1};
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.outcome, Outcome::refused) << report.summary;
  EXPECT_EQ(bench.kernel.modules.at("p1").build_id, "bb22");
}

TEST(Apply, DryRunOnlyReads) {
  OperationBench bench;
  bench.kernel.modules["p1"] = {.build_id = "bb22"};
  const Report report = run(bench, kPatch, {.dry_run = true});
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "module_build_id p1"));
}

TEST(Apply, DryRunOfAPatchInForceOnlyReads) {
  OperationBench bench;
  bench.kernel.put(kPatch);
  run(bench, kPatch, {.dry_run = true});
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "module_build_id p1"));
}

TEST(Apply, DryRunReportsARefusal) {
  OperationBench bench;
  bench.kernel.release = "6.1.0-other";
  EXPECT_EQ(run(bench, kPatch, {.dry_run = true}).outcome, Outcome::refused);
}

TEST(Apply, NamesWhatItReplaced) {
  OperationBench bench;
  bench.kernel.put(kOther);
  EXPECT_THAT(run(bench, kCumulative).replaced, ElementsAre("old"));
}

TEST(Apply, UnloadsReplacedModulesAfterTheGraceTime) {
  OperationBench bench;
  bench.kernel.patching = seconds(1);
  bench.kernel.put(kOther);
  milliseconds unloaded_at{0};
  bench.guest.before({.op = Op::unload}, [&] { unloaded_at = bench.clock.elapsed(); });
  const Report report = run(bench, kCumulative, {.grace = seconds(10)});
  EXPECT_THAT(report.unloaded, ElementsAre("old"));
  EXPECT_GE(unloaded_at, seconds(11));
}

TEST(Apply, WaitsForTheLastReferenceOfAReplacedModule) {
  OperationBench bench;
  bench.kernel.put(kOther);
  bench.kernel.reference_linger = seconds(12);
  EXPECT_THAT(run(bench, kCumulative, {.grace = seconds(10)}).unloaded, ElementsAre("old"));
}

TEST(Apply, IsDoneThoughAReplacedModuleStaysBusy) {
  OperationBench bench;
  bench.kernel.put(kOther);
  bench.guest.refuse({.op = Op::unload, .count = When::kForEver},
                     "rmmod: ERROR: Module old is in use");
  const Report report = run(bench, kCumulative);
  EXPECT_EQ(report.outcome, Outcome::done);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings.back().id, "replaced-kept");
}

TEST(Apply, KeepsReplacedModulesWhenTheGraceTimeIsInterrupted) {
  OperationBench bench;
  bench.kernel.put(kOther);
  bench.clock.schedule(seconds(5), [&] { bench.press_ctrl_c(); });
  const Report report = run(bench, kCumulative, {.grace = seconds(10)});
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
}

TEST(Apply, NeedsALookWhenTheKernelIsTaintedDuringTheGraceTime) {
  OperationBench bench;
  bench.kernel.put(kOther);
  bench.clock.schedule(seconds(5), [&] { bench.kernel.tainted |= 1U << 9; });
  const Report report = run(bench, kCumulative, {.grace = seconds(10)});
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
}

TEST(Apply, PassesWarningsOnToTheUser) {
  OperationBench bench;
  bench.guest.images["p1"] = kPatch;
  LivepatchFile file = file_of(kPatch);
  file.contents.reset();
  file.contents_unknown = "no klp_patch";
  apply(bench.context, file, {});
  EXPECT_THAT(bench.reporter.warnings, Contains(HasSubstr("no klp_patch")));
}

TEST(Apply, ReportsHowLongItTook) {
  OperationBench bench;
  const Report report = run(bench, kPatch);
  EXPECT_EQ(report.elapsed, bench.clock.elapsed());
}

}  // namespace
}  // namespace vpatch
