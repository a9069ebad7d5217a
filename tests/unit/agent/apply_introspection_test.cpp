// SPDX-License-Identifier: Apache-2.0
// What an apply makes of what guest memory tells it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fake_introspection.h"
#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/apply.h"

namespace vpatch {
namespace {

using testing::Contains;
using testing::Field;
using testing::HasSubstr;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};

class ApplyWithMemory : public testing::Test {
 protected:
  Report run(const ApplyOptions& options = {}) {
    bench.context.introspection = &memory;
    bench.guest.images["p1"] = kPatch;
    return apply(bench.context, file_of(kPatch), options);
  }

  static auto finding(std::string id) { return Contains(Field(&Finding::id, std::move(id))); }

  OperationBench bench;
  FakeIntrospection memory;
};

Forecast one_blocker() {
  Forecast forecast{.tasks = 60};
  forecast.blockers.count = 1;
  forecast.blockers.first.push_back({.tid = 7,
                                     .name = "cat",
                                     .state = "S",
                                     .stack = {},
                                     .reason = "on-stack",
                                     .why = "f is on its stack"});
  return forecast;
}

TEST_F(ApplyWithMemory, ForetellsMarksAndProvesInThisOrder) {
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_THAT(memory.calls, testing::ElementsAre("facts", "forecast", "mark", "problems"));
}

TEST_F(ApplyWithMemory, IsRefusedForWhatMemoryTellsBeforeTheGuestIsTouched) {
  memory.next_facts.ftrace = introspect::FtraceState::off;
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.findings, finding("ftrace-off"));
  EXPECT_THAT(report.summary, HasSubstr("[ftrace-off]"));
  EXPECT_THAT(bench.guest.calls, testing::ElementsAre("observe"));
}

TEST_F(ApplyWithMemory, DryRunPrintsTheForecastAndLoadsNothing) {
  memory.next_forecast = one_blocker();
  const Report report = run({.dry_run = true});
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_EQ(report.blockers.count, 1U);
  EXPECT_THAT(report.findings, finding("would-block"));
  EXPECT_THAT(bench.guest.calls, testing::ElementsAre("observe"));
}

TEST_F(ApplyWithMemory, GoesOnInSpiteOfAForetoldBlocker) {
  memory.next_forecast = one_blocker();
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_NE(bench.kernel.find("p1"), nullptr);
}

TEST_F(ApplyWithMemory, ForgetsTheForetoldBlockersOnceTheTransitionHasEnded) {
  memory.next_forecast = one_blocker();
  EXPECT_EQ(run().blockers.count, 0U);
}

TEST_F(ApplyWithMemory, NamesFunctionsItCouldNotLookFor) {
  memory.next_forecast->unknown = {"ext4:f: the module ext4 is not loaded"};
  EXPECT_THAT(run().findings, finding("forecast-unknown"));
}

TEST_F(ApplyWithMemory, GoesOnWithoutAForecast) {
  memory.next_forecast = fail(Outcome::unreachable, "torn");
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.findings, finding("no-forecast"));
}

TEST_F(ApplyWithMemory, DoesNotCallARedirectionThatIsNotThereDone) {
  memory.next_problems = std::vector<std::string>{"f does not begin with a call"};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("f does not begin with a call"));
}

TEST_F(ApplyWithMemory, SaysThatNothingIsProvedWhenMemoryCannotBeReadAtTheEnd) {
  memory.next_problems = fail(Outcome::unreachable, "gone");
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.findings, finding("not-proved"));
}

TEST_F(ApplyWithMemory, ProvesNothingWithoutAMark) {
  memory.next_mark = fail(Outcome::unreachable, "gone");
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_THAT(memory.calls, testing::Not(Contains("problems")));
}

TEST_F(ApplyWithMemory, DoesNotForetellForAPatchAlreadyInForce) {
  bench.kernel.put(kPatch);
  run();
  EXPECT_THAT(memory.calls, testing::Not(Contains("forecast")));
}

}  // namespace
}  // namespace vpatch
