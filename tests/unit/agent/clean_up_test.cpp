// SPDX-License-Identifier: Apache-2.0
// The grace time after a replace, and what becomes of the modules that were replaced.
#include "vmm-agent/operation/clean_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fake_introspection.h"
#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/revert.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kOld{.name = "old", .build_id = "cc33"};
const ModuleImage kNew{.name = "p1", .build_id = "aa11", .replace = true};

class GraceTime : public testing::Test {
 protected:
  GraceTime() {
    bench.kernel.put(kOld);
    bench.guest.images["p1"] = kNew;
    bench.context.introspection = &memory;
  }
  Report run() { return apply(bench.context, file_of(kNew), {.grace = seconds(10)}); }
  static auto finding(std::string id) { return Contains(Field(&Finding::id, std::move(id))); }

  OperationBench bench;
  FakeIntrospection memory;
};

TEST_F(GraceTime, UnloadsAndProvesThatNothingIsLeft) {
  memory.next_leftovers->restored = 3;
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(report.unloaded, ElementsAre("old"));
  EXPECT_EQ(memory.calls.back(), "leftovers of old, unloaded old");
  EXPECT_THAT(bench.reporter.steps, Contains(HasSubstr("3 function(s) run their original code")));
}

TEST_F(GraceTime, LooksAtMemoryAllTheTime) {
  run();
  EXPECT_GE(std::ranges::count(memory.calls, "problems"), 15);
}

TEST_F(GraceTime, EndsAtTheFirstTroubleInMemoryAndKeepsTheModules) {
  bench.clock.schedule(seconds(5), [&] {
    memory.next_problems = std::vector<std::string>{"the kernel log tells of trouble: BUG: x"};
  });
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("BUG: x"));
  EXPECT_THAT(report.findings, finding("replaced-kept"));
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
  EXPECT_LT(bench.clock.elapsed(), seconds(7));
}

TEST_F(GraceTime, KeepsTheModulesOfAGuestWhoseMemoryIsGone) {
  bench.clock.schedule(seconds(5), [&] { memory.next_problems = fail(Outcome::unreachable, "x"); });
  EXPECT_EQ(run().outcome, Outcome::failed_needs_look);
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
}

TEST_F(GraceTime, KeepsTheModulesOfAGuestWhoseAgentFallsSilent) {
  bench.clock.schedule(seconds(5), [&] {
    bench.guest.fail({.first = bench.guest.calls.size() + 1, .count = When::kForEver});
  });
  EXPECT_EQ(run().outcome, Outcome::failed_needs_look);
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
}

TEST_F(GraceTime, UnloadsNothingOnceATransitionWasForced) {
  memory.next_forced = std::vector<ForcedPatch>{{"earlier", ForcedSign::log}};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(report.findings, finding("forced-kept"));
  EXPECT_THAT(report.unloaded, IsEmpty());
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
}

TEST_F(GraceTime, UnloadsNothingWhenItsOwnTransitionWasForced) {
  bench.guest.before({.op = Op::load}, [&] {
    memory.next_forced = std::vector<ForcedPatch>{{"p1", ForcedSign::log}};
  });
  EXPECT_THAT(run().unloaded, IsEmpty());
}

TEST_F(GraceTime, TakesAModuleTheKernelStillHoldsForNoForcedOne) {
  bench.guest.before({.op = Op::load}, [&] {
    memory.next_forced = std::vector<ForcedPatch>{{"old", ForcedSign::kept_module}};
  });
  EXPECT_THAT(run().unloaded, ElementsAre("old"));
}

TEST_F(GraceTime, NeedsALookWhenMemoryStillShowsWhatSysfsDoesNot) {
  memory.next_leftovers->wrong = {"old is still on the kernel's list of livepatches"};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("old is still on the kernel's list"));
}

TEST_F(GraceTime, TellsOfAHookThatMayBeAnothersOnly) {
  memory.next_leftovers->hooked = {"vmlinux:f"};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.findings, finding("still-hooked"));
}

TEST_F(GraceTime, SaysThatNothingWasProvedOfWhatIsGone) {
  memory.next_leftovers = fail(Outcome::unreachable, "torn");
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.findings, finding("not-proved"));
}

class RevertForced : public GraceTime {};

TEST_F(RevertForced, KeepsTheModuleOfAPatchThatWasForced) {
  memory.next_forced = std::vector<ForcedPatch>{{"old", ForcedSign::log}};
  const Report report = revert(bench.context, {.patch = "old"});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_EQ(bench.kernel.find("old"), nullptr);
  EXPECT_TRUE(bench.kernel.modules.contains("old"));
  EXPECT_THAT(report.findings, finding("forced-kept"));
  EXPECT_THAT(report.summary, HasSubstr("its module stays loaded"));
}

TEST_F(RevertForced, UnloadsAPatchThoughAnotherWasForced) {
  memory.next_forced = std::vector<ForcedPatch>{{"another", ForcedSign::log}};
  EXPECT_THAT(revert(bench.context, {.patch = "old"}).unloaded, ElementsAre("old"));
}

TEST_F(RevertForced, HasNothingToDoForAPatchForcedOut) {
  bench.context.introspection = nullptr;
  bench.kernel.unpatching.reset();
  bench.kernel.write_enabled("old", false);
  bench.kernel.write_force("old");
  bench.clock.advance(seconds(1));
  const Report report = revert(bench.context, {.patch = "old"});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_FALSE(called(bench.guest, "unload old"));
  EXPECT_THAT(report.findings, finding("forced-kept"));
}

TEST_F(RevertForced, WaitsForAModuleThatOnlyLooksKept) {
  bench.context.introspection = nullptr;
  bench.kernel.reference_linger = milliseconds(700);
  bench.kernel.unpatching = milliseconds(0);
  bench.kernel.write_enabled("old", false);
  EXPECT_THAT(revert(bench.context, {.patch = "old"}).unloaded, ElementsAre("old"));
}

TEST_F(RevertForced, ProvesThatNothingIsLeft) {
  revert(bench.context, {.patch = "old"});
  EXPECT_EQ(memory.calls.back(), "leftovers of old, unloaded old");
}

TEST_F(RevertForced, ApplyDoesNotUnloadAStaleModuleOfThatName) {
  memory.next_forced = std::vector<ForcedPatch>{{"p1", ForcedSign::kept_module}};
  bench.kernel.modules["p1"] = {.build_id = "bb22", .references = 1};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_FALSE(called(bench.guest, "unload p1"));
}

}  // namespace
}  // namespace vpatch
