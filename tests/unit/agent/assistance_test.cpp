// SPDX-License-Identifier: Apache-2.0
// What apply and revert make of the assistance, and when they call for it.
#include <deque>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fake_introspection.h"
#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/revert.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};

/// Ends each wait as told; the calls of guest and assistance share one list.
class FakeAssistance final : public Assistance {
 public:
  explicit FakeAssistance(std::vector<std::string>& calls) : calls_(calls) {}

  std::function<void()> on_begin = [] {};
  std::deque<Result<AssistedEnd>> ends;  ///< of the next waits; ended, when there is none left
  TransitionRecord record{.seen = true, .lasted = milliseconds(12)};

  void prepare(const std::stop_token&) override { calls_.emplace_back("prepare"); }
  void watch_inside(std::vector<introspect::ForbiddenFunction> functions) override {
    calls_.push_back("watch " + functions.front().name);
  }
  void begin(const std::string& patch, const std::stop_token&) override {
    calls_.push_back("begin " + patch);
    on_begin();
  }
  Result<AssistedEnd> await(milliseconds, const std::stop_token&,
                            const Progress& progress) override {
    calls_.emplace_back("await");
    progress("patching p1: 0.2 s");
    if (ends.empty()) {
      return AssistedEnd{};
    }
    auto end = ends.front();
    ends.pop_front();
    return end;
  }
  TransitionRecord finish() override {
    calls_.emplace_back("finish");
    return record;
  }

 private:
  std::vector<std::string>& calls_;
};

class WithAssistance : public testing::Test {
 protected:
  WithAssistance() {
    bench.context.assistance = &assistance;
    bench.guest.images["p1"] = kPatch;
  }
  Report run(const ApplyOptions& options = {}) {
    return apply(bench.context, file_of(kPatch), options);
  }
  static auto finding(std::string id) { return Contains(Field(&Finding::id, std::move(id))); }

  /// Where in the calls the first of this name comes.
  std::ptrdiff_t place(std::string_view call) const {
    return std::ranges::find(bench.guest.calls, call) - bench.guest.calls.begin();
  }

  OperationBench bench;
  FakeAssistance assistance{bench.guest.calls};
};

AssistedEnd stalled() {
  AssistedEnd end{.how = AssistedEnd::How::timed_out};
  end.pending.count = 1;
  end.pending.first.push_back({.tid = 9, .name = "dd", .state = "D", .why = "f is on its stack"});
  return end;
}

TEST_F(WithAssistance, WatchesFromBeforeTheLoadUntilTheTransitionIsOver) {
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_LT(place("begin p1"), place("load p1"));
  EXPECT_LT(place("load p1"), place("await"));
  EXPECT_LT(place("await"), place("finish"));
}

TEST_F(WithAssistance, WatchesFromBeforeTheDisable) {
  bench.kernel.put(kPatch);
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::done);
  EXPECT_LT(place("begin p1"), place("set_enabled p1 0"));
  EXPECT_LT(place("await"), place("finish"));
}

TEST_F(WithAssistance, CtrlCWhileItGetsReadyKeepsThePatchOut) {
  assistance.on_begin = [this] { bench.press_ctrl_c(); };
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(report.summary, HasSubstr("interrupted"));
  EXPECT_THAT(bench.guest.calls, Not(Contains("load p1")));
  EXPECT_THAT(bench.guest.calls, Contains("finish"));
}

TEST_F(WithAssistance, CtrlCWhileItGetsReadyLeavesThePatchInForce) {
  bench.kernel.put(kPatch);
  assistance.on_begin = [this] { bench.press_ctrl_c(); };
  EXPECT_EQ(revert(bench.context, {.patch = "p1"}).outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, Not(Contains("set_enabled p1 0")));
}

TEST_F(WithAssistance, IsNotCalledForADryRun) {
  run({.dry_run = true});
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST_F(WithAssistance, PutsWhatWasSeenIntoTheReport) {
  assistance.record.pauses = 1;
  assistance.record.paused = milliseconds(3);
  const Report report = run();
  EXPECT_EQ(report.transition.value_or(TransitionRecord()).lasted, milliseconds(12));
  EXPECT_THAT(report.summary, HasSubstr("transition 12.0 ms, guest paused 3.0 ms"));
}

TEST_F(WithAssistance, SaysWhatCouldNotBeDone) {
  assistance.record.notes = {{"no-guest-module", "at the kernel's own pace", "load it"}};
  EXPECT_THAT(run().findings, finding("no-guest-module"));
}

TEST_F(WithAssistance, ShowsItsProgress) {
  run();
  EXPECT_THAT(bench.reporter.progresses, Contains("patching p1: 0.2 s"));
}

TEST_F(WithAssistance, RevertsAStalledTransitionAndNamesTheBlocker) {
  bench.kernel.patching.reset();
  assistance.ends = {stalled()};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::stalled_reverted);
  EXPECT_THAT(report.summary, HasSubstr("dd (9, D): f is on its stack"));
  EXPECT_EQ(report.blockers.count, 1U);
  EXPECT_EQ(bench.kernel.find("p1"), nullptr);
}

TEST_F(WithAssistance, LeavesAStalledTransitionAsAsked) {
  bench.kernel.patching.reset();
  assistance.ends = {stalled()};
  EXPECT_EQ(run({.on_stall = OnStall::wait}).outcome, Outcome::stalled_waiting);
}

TEST_F(WithAssistance, NamesTheStageOnceAllTasksHaveMoved) {
  bench.kernel.patching.reset();
  assistance.ends = {AssistedEnd{.how = AssistedEnd::How::timed_out, .stage = "for RCU tasks"}};
  EXPECT_THAT(run({.on_stall = OnStall::wait}).summary, HasSubstr("and waits for RCU tasks"));
}

TEST_F(WithAssistance, WaitsOnWhenItIsInterruptedWhileTheKernelCompletesIt) {
  bench.kernel.patching = std::chrono::seconds(1);
  bench.guest.after({.op = Op::load}, [this] { bench.press_ctrl_c(); });
  assistance.ends = {AssistedEnd{.how = AssistedEnd::How::interrupted, .stage = "for RCU tasks"}};
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_THAT(bench.reporter.warnings, Contains(HasSubstr("too late to be stopped")));
}

TEST_F(WithAssistance, LeavesAnInterruptedTransitionToAKernelThatDoesNotCompleteIt) {
  bench.kernel.patching.reset();
  bench.guest.after({.op = Op::load}, [this] { bench.press_ctrl_c(); });
  assistance.ends = {AssistedEnd{.how = AssistedEnd::How::interrupted, .stage = "for RCU tasks"},
                     AssistedEnd{.how = AssistedEnd::How::timed_out, .stage = "for RCU tasks"}};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::stalled_waiting);
  EXPECT_THAT(report.summary, HasSubstr("and waits for RCU tasks"));
}

TEST_F(WithAssistance, AsksTheAgentWhenMemoryCannotBeReadAnyMore) {
  assistance.ends = {fail(Outcome::unreachable, "gone")};
  EXPECT_EQ(run().outcome, Outcome::done);
  EXPECT_THAT(bench.reporter.warnings, Contains(HasSubstr("gone")));
}

TEST_F(WithAssistance, LeavesTheModuleLoadedWhenTasksMayRunInIt) {
  assistance.ends = {fail(Outcome::failed_needs_look, "resumed while dd (9) was moved")};
  const Report report = run();
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("resumed while dd (9) was moved"));
  EXPECT_NE(bench.kernel.find("p1"), nullptr);
}

class WhenClear : public WithAssistance {
 protected:
  WhenClear() { bench.context.introspection = &memory; }

  static Forecast blocked() {
    Forecast forecast{.tasks = 60};
    forecast.blockers.count = 1;
    forecast.blockers.first.push_back({.tid = 7, .name = "cat", .why = "f is on its stack"});
    return forecast;
  }

  FakeIntrospection memory;
};

TEST_F(WhenClear, LoadsAtOnceWhenNobodyIsInTheWay) {
  EXPECT_EQ(run({.when_clear = milliseconds(1000)}).outcome, Outcome::done);
}

TEST_F(WhenClear, WaitsUntilNobodyIs) {
  memory.next_forecasts = {blocked(), blocked(), blocked()};
  EXPECT_EQ(run({.when_clear = milliseconds(1000)}).outcome, Outcome::done);
  EXPECT_THAT(bench.reporter.progresses, Contains(HasSubstr("cat (7): f is on its stack")));
}

TEST_F(WhenClear, DoesNotLoadWhenThereIsNoSuchInstant) {
  memory.next_forecast = blocked();
  const Report report = run({.when_clear = milliseconds(1000)});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("no clear instant in 1 s"));
  EXPECT_THAT(report.summary, HasSubstr("the guest is as before"));
  EXPECT_FALSE(called(bench.guest, "load p1"));
  EXPECT_TRUE(bench.guest.files.empty());
}

TEST_F(WhenClear, LeavesFunctionsAloneThatAreToBeQuiet) {
  memory.next_occupants = {blocked(), blocked(), blocked()};
  const Report report = run({.quiesce = {"f"}});
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_THAT(report.findings, finding("quiesce-busy"));
  EXPECT_EQ(std::ranges::count(memory.calls, "occupants"), 4);
  EXPECT_LT(place("prepare"), place("watch f"));
  EXPECT_LT(place("watch f"), place("begin p1"));
}

TEST_F(WhenClear, DoesNotLoadWhileSomebodyIsInAFunctionToBeQuiet) {
  memory.next_occupants.assign(10'000, blocked());
  const Report report = run({.quiesce = {"f"}});
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_THAT(report.summary, HasSubstr("no clear instant in 60 s"));
  EXPECT_FALSE(called(bench.guest, "load p1"));
}

TEST_F(WhenClear, WaitsForBothWhenBothAreAskedFor) {
  memory.next_forecasts = {Forecast{}, blocked(), Forecast{}, Forecast{}};
  memory.next_occupants = {Forecast{}, blocked(), Forecast{}};
  EXPECT_EQ(run({.when_clear = milliseconds(1000), .quiesce = {"f"}}).outcome, Outcome::done);
  EXPECT_TRUE(memory.next_forecasts.empty());
  EXPECT_TRUE(memory.next_occupants.empty());
}

TEST_F(WhenClear, RefusesAFunctionThatCannotBeLocated) {
  memory.next_located = fail(Outcome::refused, "--quiesce g: no such symbol");
  EXPECT_EQ(run({.quiesce = {"g"}}).outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST_F(WhenClear, DoesNotQuiesceBlindly) {
  bench.context.introspection = nullptr;
  EXPECT_EQ(run({.quiesce = {"f"}}).outcome, Outcome::refused);
  EXPECT_THAT(bench.guest.calls, ElementsAre("observe"));
}

TEST_F(WhenClear, SaysThatQuiesceComesTooLateForARunningTransition) {
  bench.kernel.put(kPatch, true);
  EXPECT_THAT(run({.quiesce = {"f"}}).findings, finding("quiesce-late"));
}

TEST_F(WhenClear, DoesNotLoadBlindly) {
  bench.context.introspection = nullptr;
  EXPECT_EQ(run({.when_clear = milliseconds(1000)}).outcome, Outcome::refused);
  EXPECT_FALSE(called(bench.guest, "load p1"));
}

}  // namespace
}  // namespace vpatch
