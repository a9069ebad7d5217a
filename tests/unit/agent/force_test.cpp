// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/force.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fake_introspection.h"
#include "tests/unit/agent/operation_bench.h"

namespace vpatch {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};
const ModuleImage kOther{.name = "old", .build_id = "cc33"};

class ForceTest : public testing::Test {
 protected:
  ForceTest() {
    bench.kernel.patching.reset();
    bench.kernel.unpatching.reset();
    bench.kernel.pending.count = 1;
    bench.kernel.pending.first.push_back(
        {.tid = 7, .name = "dd", .state = "D", .why = "f is on its stack"});
  }

  Report run(const std::string& patch = {}, bool yes = true) {
    return force(bench.context, {.patch = patch, .confirm = [&](const ForceQuestion& question) {
                                   asked.push_back(question);
                                   return yes ? Result<void>()
                                              : fail(Outcome::refused, "not confirmed");
                                 }});
  }
  static auto finding(std::string id) { return Contains(Field(&Finding::id, std::move(id))); }

  OperationBench bench;
  std::vector<ForceQuestion> asked;
};

TEST_F(ForceTest, EndsAPatchingThatNobodyElseEnds) {
  bench.kernel.put(kPatch, true);
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_EQ(bench.kernel.find("p1")->phase(), PatchPhase::patched);
  EXPECT_THAT(report.findings, finding("forced"));
  EXPECT_THAT(report.summary, HasSubstr("plan a reboot"));
}

TEST_F(ForceTest, EndsAnUnpatchingAndLeavesTheModuleLoaded) {
  bench.kernel.put(kPatch);
  bench.kernel.write_enabled("p1", false);
  const Report report = run("p1");
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_EQ(bench.kernel.find("p1"), nullptr);
  EXPECT_TRUE(bench.kernel.modules.contains("p1"));
  EXPECT_FALSE(called(bench.guest, "unload p1"));
  EXPECT_TRUE(report.taken_out);
}

TEST_F(ForceTest, ShowsThePendingTasksAndTheDirectionBeforeItAsks) {
  bench.kernel.put(kPatch);
  bench.kernel.write_enabled("p1", false);
  run();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].domain, "web01");
  EXPECT_EQ(asked[0].direction, PatchPhase::unpatching);
  EXPECT_EQ(asked[0].pending.first.front().name, "dd");
}

TEST_F(ForceTest, DoesNothingWithoutConfirmation) {
  bench.kernel.put(kPatch, true);
  const Report report = run("p1", false);
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe", "pending_tasks"));
}

TEST_F(ForceTest, RefusesWithoutATransition) {
  bench.kernel.put(kPatch);
  EXPECT_EQ(run("p1").outcome, Outcome::refused);
  EXPECT_TRUE(asked.empty());
}

TEST_F(ForceTest, RefusesAnotherPatchThanTheOneInTransition) {
  bench.kernel.put(kOther);
  bench.kernel.put(kPatch, true);
  const Report report = run("old");
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("patching p1, not old"));
}

TEST_F(ForceTest, RefusesWhenNobodyIsPending) {
  bench.kernel.pending = {};
  bench.kernel.put(kPatch, true);
  EXPECT_EQ(run().outcome, Outcome::refused);
  EXPECT_FALSE(called(bench.guest, "force p1"));
}

TEST_F(ForceTest, ForcesNothingThatHasEndedMeanwhile) {
  bench.kernel.put(kPatch, true);
  bench.guest.before({.op = Op::log_mark}, [&] { bench.kernel.end_transition(); });
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.summary, HasSubstr("nothing was forced"));
  EXPECT_FALSE(called(bench.guest, "force p1"));
}

TEST_F(ForceTest, DoesNotForceTheOtherDirection) {
  bench.kernel.put(kPatch, true);
  bench.guest.before({.op = Op::log_mark}, [&] { bench.kernel.write_enabled("p1", false); });
  EXPECT_EQ(run().outcome, Outcome::refused);
  EXPECT_FALSE(called(bench.guest, "force p1"));
}

TEST_F(ForceTest, TellsWhenTheKernelRefuses) {
  bench.kernel.put(kPatch, true);
  bench.guest.refuse({.op = Op::force, .count = When::kForEver}, "sh: printf: I/O error");
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(report.findings, testing::Not(finding("forced")));
}

TEST_F(ForceTest, CountsALostReplyAsForced) {
  bench.kernel.put(kPatch, true);
  bench.guest.fail({.op = Op::force}, {.effect = Fault::Effect::whole});
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(report.findings, finding("forced"));
}

TEST_F(ForceTest, AsksGuestMemoryWhoIsPendingAndWhatIsLeft) {
  FakeIntrospection memory;
  memory.next_pending = bench.kernel.pending;
  bench.context.introspection = &memory;
  bench.kernel.put(kPatch);
  bench.kernel.write_enabled("p1", false);
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_THAT(memory.calls, ElementsAre("pending", "mark", "leftovers of p1, unloaded "));
}

TEST_F(ForceTest, NeedsALookWhenMemoryDoesNotShowItInForce) {
  FakeIntrospection memory;
  memory.next_pending = bench.kernel.pending;
  memory.next_problems = std::vector<std::string>{"it is not"};
  bench.context.introspection = &memory;
  bench.kernel.put(kPatch, true);
  EXPECT_EQ(run().outcome, Outcome::failed_needs_look);
}

}  // namespace
}  // namespace vpatch
