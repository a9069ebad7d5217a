// SPDX-License-Identifier: Apache-2.0
// Each rule of a rollout, by what is fed to the engine and what it then does.
#include "vmm-agent/rollout/engine.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::rollout {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using Guest = Looked::Guest;
using Health = HealthVerdict::Health;
using State = DomainState;

constexpr Time kBegin{std::chrono::sys_days(std::chrono::year(2026) / 3 / 1)};

/// No canary, one wave, one check each, no waiting for health, room for all.
Plan plain() {
  Plan plan;
  plan.waves = {Wave{}};
  plan.limits = {.parallel = 100, .parallel_per_connection = 100, .budget = {0}};
  plan.healthy_for = 0s;
  return plan;
}

Plan with_canary(std::chrono::seconds soak) {
  Plan plan = plain();
  plan.canary = Canary{.domains = {}, .amount = Amount{1}, .soak = soak};
  return plan;
}

Plan with_failures(OnFailure on_failure, std::uint32_t budget) {
  Plan plan = plain();
  plan.on_failure = on_failure;
  plan.limits.budget = {budget};
  return plan;
}

/// In wave 1, on connection 0.
std::vector<FleetDomain> domains(std::size_t count) {
  return std::vector<FleetDomain>(count);
}

FleetDomain domain(ConnectionId connection, std::uint32_t wave = 1, State state = State::waiting) {
  return {.connection = connection, .wave = wave, .record = {.state = state}};
}

/// Drives an engine as a driver does, and keeps its journal.
class Rollout {
 public:
  Rollout(Plan plan, std::vector<FleetDomain> fleet)
      : plan_(std::move(plan)), journal_(std::move(fleet)), engine_(plan_, journal_, kBegin) {
    connect();
  }

  /// kill -9 of the driver, and another one.
  void restart() {
    operations_.clear();
    engine_ = Engine::restore(plan_, journal_, rollout_, now_);
    connect();
  }

  void feed(const Event& event) {
    done_.clear();
    step(event);
  }
  void wait(std::chrono::seconds time) {
    now_ += time;
    feed(Tick{});
  }

  void finish(DomainId id, Outcome outcome = Outcome::done,
              Finished::Found found = Finished::Found::nothing_special) {
    feed(Finished{id, operations_[id], outcome, "text", found});
  }
  void look(DomainId id, Guest guest) { feed(Looked{id, operations_[id], guest, "text"}); }
  void check(DomainId id, Health health) {
    feed(HealthVerdict{id, operations_[id], health, "text"});
  }
  void patch(DomainId id) {
    finish(id);
    check(id, Health::pass);
  }
  void command(Command::Kind kind) { feed(Command{kind, "somebody"}); }

  State state(DomainId id) const { return record(id).state; }
  const DomainRecord& record(DomainId id) const { return journal_[id].record; }
  const RolloutRecord& rollout() const { return rollout_; }
  /// Of the last event: "apply 0", ...
  const std::vector<std::string>& done() const { return done_; }
  Summary summary() const { return engine_.summary(); }
  std::optional<std::chrono::seconds> wakes_up_in() const {
    const auto wake_up = engine_.next_wake_up();
    return wake_up ? std::optional(*wake_up - now_) : std::nullopt;
  }
  OperationId operation(DomainId id) const { return operations_.at(id); }

 private:
  void connect() {
    ConnectionId last = 0;
    for (const FleetDomain& each : journal_) {
      last = std::max(last, each.connection);
    }
    done_.clear();
    for (ConnectionId connection = 0; connection <= last; ++connection) {
      step(ConnectionUp{connection});
    }
  }

  void step(const Event& event) {
    const Step step = engine_.handle(event, now_);
    for (const DomainChange& change : step.domains) {
      journal_[change.domain].record = change.record;
    }
    rollout_ = step.rollout.value_or(rollout_);
    for (const Action& action : step.actions) {
      operations_[action.domain] = action.operation;
      done_.push_back(fmt::format("{} {}", to_string(action.kind), action.domain));
    }
  }

  Plan plan_;
  std::vector<FleetDomain> journal_;
  RolloutRecord rollout_;
  Time now_ = kBegin;
  Engine engine_;
  std::map<DomainId, OperationId> operations_;
  std::vector<std::string> done_;
};

// Order.

TEST(RolloutEngine, BeginsWithNothingBeforeAConnectionIsUp) {
  Engine engine(plain(), domains(1), kBegin);
  EXPECT_THAT(engine.handle(Tick{}, kBegin).actions, IsEmpty());
  EXPECT_EQ(engine.handle(ConnectionUp{0}, kBegin).actions.size(), 1U);
}

TEST(RolloutEngine, PatchesAndChecksADomain) {
  Rollout rollout(plain(), domains(1));
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0"));
  EXPECT_EQ(rollout.state(0), State::applying);
  rollout.finish(0);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 0"));
  EXPECT_EQ(rollout.state(0), State::watching);
  rollout.check(0, Health::pass);
  EXPECT_EQ(rollout.state(0), State::done);
  EXPECT_TRUE(rollout.rollout().finished);
  EXPECT_EQ(rollout.wakes_up_in(), std::nullopt);
}

TEST(RolloutEngine, BeginsTheCanaryAloneAndTheRestAfterItsSoak) {
  Rollout rollout(with_canary(600s), {domain(0), domain(1, 0), domain(2)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
  rollout.finish(1);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 1"));
  rollout.check(1, Health::pass);
  EXPECT_THAT(rollout.done(), IsEmpty());
  for (int checks = 0; checks < 4; ++checks) {
    EXPECT_EQ(rollout.wakes_up_in(), 150s) << "the canary is watched in its soak";
    rollout.wait(149s);
    EXPECT_THAT(rollout.done(), IsEmpty());
    rollout.wait(1s);
    EXPECT_THAT(rollout.done(), ElementsAre("check-health 1"));
    EXPECT_EQ(rollout.state(1), State::watching);
    rollout.check(1, Health::pass);
  }
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0", "apply 2"));
}

TEST(RolloutEngine, ACanaryThatFallsIllInItsSoakStopsTheRollout) {
  Rollout rollout(with_canary(600s), {domain(0), domain(1, 0)});
  rollout.patch(1);
  rollout.wait(150s);
  rollout.check(1, Health::fail);
  EXPECT_EQ(rollout.state(1), State::failed);
  EXPECT_EQ(rollout.rollout().cause, Cause::canary);
  EXPECT_TRUE(rollout.rollout().paused);
  rollout.wait(600s);
  EXPECT_EQ(rollout.state(0), State::waiting);
}

TEST(RolloutEngine, ASoakThatWasPausedIsWatchedOnAfterAResume) {
  Rollout rollout(with_canary(600s), {domain(0), domain(1, 0)});
  rollout.patch(1);
  rollout.command(Command::Kind::pause);
  rollout.wait(1200s);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 1")) << "its last one";
  rollout.check(1, Health::pass);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0"));
}

TEST(RolloutEngine, BeginsAWaveWhenTheOneBeforeIsOverAndHasSoaked) {
  Plan plan = plain();
  plan.waves = {Wave{.soak = 60s}, Wave{}};
  Rollout rollout(plan, {domain(0), domain(0), domain(0, 2)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0", "apply 1"));
  rollout.patch(0);
  rollout.wait(60s);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.patch(1);
  rollout.wait(60s);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 2"));
}

TEST(RolloutEngine, DoesNotSoakWhereNothingWasPatched) {
  Plan plan = plain();
  plan.waves = {Wave{.soak = 60s}, Wave{}};
  const Rollout rollout(plan, {domain(0, 1, State::off), domain(0, 2)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
}

TEST(RolloutEngine, PausesWhereTheCanaryProvesNothing) {
  Rollout rollout(with_canary(0s), {domain(0, 0, State::off), domain(0)});
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_EQ(rollout.rollout().cause, Cause::canary_unproven);
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
}

TEST(RolloutEngine, LeavesAloneWhatIsOffUnmatchedOrPatched) {
  const Rollout rollout(plain(), {domain(0, 1, State::off), domain(0, 1, State::unmatched),
                                  domain(0, 1, State::already)});
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_TRUE(rollout.rollout().finished);
}

// Limits.

TEST(RolloutEngine, KeepsTheLimitOnAllConnections) {
  Plan plan = plain();
  plan.limits.parallel = 2;
  Rollout rollout(plan, {domain(0), domain(1), domain(2)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0", "apply 1"));
  rollout.finish(0);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 0")) << "the watch holds its place";
  rollout.check(0, Health::pass);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 2"));
}

TEST(RolloutEngine, KeepsTheLimitOnOneConnectionAndPassesItOver) {
  Plan plan = plain();
  plan.limits.parallel_per_connection = 1;
  Rollout rollout(plan, {domain(0), domain(0), domain(1), domain(1)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0", "apply 2"));
  rollout.patch(2);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 3"));
}

TEST(RolloutEngine, CancelsAnApplyThatTakesTooLongAndGivesItUpLater) {
  Rollout rollout(plain(), domains(1));
  rollout.wait(599s);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.wait(1s);
  EXPECT_THAT(rollout.done(), ElementsAre("cancel 0"));
  EXPECT_EQ(rollout.state(0), State::applying);
  rollout.wait(600s);
  EXPECT_EQ(rollout.state(0), State::failed);
  EXPECT_EQ(rollout.record(0).outcome, Outcome::failed_needs_look);
  EXPECT_TRUE(rollout.record(0).touched);
}

TEST(RolloutEngine, ACancelledApplyEndsAsItSays) {
  Rollout rollout(plain(), domains(1));
  rollout.wait(600s);
  rollout.finish(0, Outcome::failed_restored);
  EXPECT_EQ(rollout.record(0).outcome, Outcome::failed_restored);
  EXPECT_FALSE(rollout.record(0).touched);
}

TEST(RolloutEngine, FailsWithoutProgress) {
  Plan plan = with_failures(OnFailure::pause, 100);
  plan.limits.progress = 1000s;
  plan.limits.parallel = 1;
  Rollout rollout(plan, domains(3));
  rollout.wait(500s);
  rollout.finish(0, Outcome::refused);
  rollout.wait(499s);
  EXPECT_FALSE(rollout.rollout().paused);
  rollout.wait(1s);
  EXPECT_TRUE(rollout.rollout().paused);
  EXPECT_EQ(rollout.rollout().cause, Cause::no_progress);
}

TEST(RolloutEngine, ADomainThatIsDoneIsProgress) {
  Plan plan = plain();
  plan.limits.progress = 1000s;
  plan.limits.per_domain = 5000s;
  Rollout rollout(plan, domains(2));
  rollout.wait(900s);
  rollout.patch(0);
  rollout.wait(900s);
  EXPECT_FALSE(rollout.rollout().paused);
  rollout.wait(100s);
  EXPECT_TRUE(rollout.rollout().paused);
}

MaintenanceWindow late_evening() {
  MaintenanceWindow window;
  window.days.set();
  window.from = 22h;
  window.to = 23h;
  window.cutoff = 10min;
  return window;
}

TEST(RolloutEngine, BeginsNothingOutOfTheWindowAndEndsWhatIsInFlight) {
  Plan plan = plain();
  plan.window = late_evening();
  plan.limits.parallel = 1;
  plan.limits.per_domain = 2h;
  Rollout rollout(plan, domains(2));
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_EQ(rollout.wakes_up_in(), 22h);
  rollout.wait(22h);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0"));
  rollout.wait(50min);  // the cutoff
  rollout.patch(0);
  EXPECT_EQ(rollout.state(0), State::done);
  EXPECT_EQ(rollout.state(1), State::waiting);
  EXPECT_EQ(rollout.wakes_up_in(), 23h + 10min);
  rollout.wait(23h + 10min);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
}

TEST(RolloutEngine, ARollbackDoesNotWaitForTheWindow) {
  Plan plan = plain();
  plan.window = late_evening();
  Rollout rollout(plan, domains(1));
  rollout.wait(22h);
  rollout.patch(0);
  rollout.wait(2h);
  rollout.command(Command::Kind::rollback);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
}

// Outcomes.

struct OutcomeRow {
  Outcome outcome;
  State state;
  bool failure;
  bool touched;
};

TEST(RolloutEngine, TakesEachExitCodeOfAnApply) {
  for (const OutcomeRow& row : {
           OutcomeRow{Outcome::done, State::watching, false, true},
           OutcomeRow{Outcome::unrecorded, State::watching, false, true},
           OutcomeRow{Outcome::usage, State::failed, true, false},
           OutcomeRow{Outcome::refused, State::failed, true, false},
           OutcomeRow{Outcome::stalled_reverted, State::failed, true, false},
           OutcomeRow{Outcome::stalled_waiting, State::failed, true, true},
           OutcomeRow{Outcome::unreachable, State::unknown, false, true},
           OutcomeRow{Outcome::failed_restored, State::failed, true, false},
           OutcomeRow{Outcome::failed_needs_look, State::failed, true, true},
           OutcomeRow{Outcome::internal, State::failed, true, true},
       }) {
    SCOPED_TRACE(to_string(row.outcome));
    Rollout rollout(plain(), domains(1));
    rollout.finish(0, row.outcome);
    EXPECT_EQ(rollout.state(0), row.state);
    EXPECT_EQ(rollout.record(0).failure, row.failure);
    EXPECT_EQ(rollout.record(0).touched, row.touched);
    EXPECT_EQ(rollout.record(0).outcome, row.outcome);
    EXPECT_EQ(rollout.record(0).text, "text");
    EXPECT_EQ(rollout.rollout().paused, row.failure);
  }
}

TEST(RolloutEngine, RecordsADomainThatWentOffWhileItWaited) {
  Rollout rollout(plain(), domains(1));
  rollout.finish(0, Outcome::refused, Finished::Found::off);
  EXPECT_EQ(rollout.state(0), State::off);
  EXPECT_FALSE(rollout.record(0).failure);
  EXPECT_TRUE(rollout.rollout().finished);
}

TEST(RolloutEngine, RollbackForgetsWhatWasRegisteredForADomainThatIsOff) {
  Rollout rollout(plain(), domains(1));
  rollout.finish(0, Outcome::done, Finished::Found::off);
  rollout.command(Command::Kind::rollback);
  EXPECT_EQ(rollout.state(0), State::reverting);
  rollout.finish(0);
  EXPECT_EQ(rollout.state(0), State::reverted);
}

TEST(RolloutEngine, NeverTakesOutWhatWasInForceBefore) {
  Rollout rollout(plain(), domains(1));
  rollout.finish(0, Outcome::done, Finished::Found::in_force);
  EXPECT_EQ(rollout.state(0), State::already);
  rollout.command(Command::Kind::rollback);
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_EQ(rollout.state(0), State::already);
}

// Health.

TEST(RolloutEngine, ADomainIsDoneOnlyAfterTheWholeWatch) {
  Plan plan = plain();
  plan.healthy_for = 70s;
  Rollout rollout(plan, domains(1));
  rollout.finish(0);
  rollout.check(0, Health::pass);
  EXPECT_EQ(rollout.wakes_up_in(), 30s);
  rollout.wait(30s);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 0"));
  rollout.check(0, Health::pass);
  rollout.wait(30s);
  rollout.check(0, Health::pass);
  EXPECT_EQ(rollout.wakes_up_in(), 10s);
  rollout.wait(10s);
  EXPECT_EQ(rollout.state(0), State::watching) << "no check has passed at its end";
  rollout.check(0, Health::pass);
  EXPECT_EQ(rollout.state(0), State::done);
}

TEST(RolloutEngine, AFailedCheckIsAFailureAndThePatchStays) {
  Rollout rollout(plain(), domains(1));
  rollout.finish(0);
  rollout.check(0, Health::fail);
  EXPECT_EQ(rollout.state(0), State::failed);
  EXPECT_TRUE(rollout.record(0).touched);
  EXPECT_EQ(rollout.rollout().cause, Cause::budget);
  EXPECT_EQ(rollout.rollout().domain, 0U);
}

TEST(RolloutEngine, AnInconclusiveCheckPausesAndIsRepeatedByResume) {
  Plan plan = plain();
  plan.limits.parallel = 1;
  plan.limits.budget = {100};
  Rollout rollout(plan, domains(2));
  rollout.finish(0);
  rollout.check(0, Health::inconclusive);
  EXPECT_EQ(rollout.state(0), State::inconclusive);
  EXPECT_EQ(rollout.rollout().cause, Cause::inconclusive);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("check-health 0")) << "before anything new";
  rollout.check(0, Health::inconclusive);
  EXPECT_TRUE(rollout.rollout().paused);
  rollout.command(Command::Kind::resume);
  rollout.check(0, Health::pass);
  EXPECT_EQ(rollout.state(0), State::done);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
}

TEST(RolloutEngine, ACheckWithoutAnAnswerIsInconclusive) {
  Plan plan = plain();
  plan.checks = {{.name = "web", .argv = {}, .timeout = 40s}};
  Rollout rollout(plan, domains(1));
  rollout.finish(0);
  rollout.wait(99s);
  EXPECT_EQ(rollout.state(0), State::watching);
  rollout.wait(1s);
  EXPECT_EQ(rollout.state(0), State::inconclusive);
}

// The budget.

TEST(RolloutEngine, GoesOnWithinItsBudgetAndStopsPastIt) {
  Plan plan = with_failures(OnFailure::pause, 1);
  plan.limits.parallel = 2;
  Rollout rollout(plan, domains(6));
  rollout.finish(0, Outcome::refused);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 2"));
  rollout.finish(1, Outcome::refused);
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_EQ(rollout.rollout().cause, Cause::budget);
  rollout.finish(2, Outcome::refused);  // in flight
  EXPECT_EQ(rollout.summary().failures, 3U);
  rollout.command(Command::Kind::resume);  // accepts them
  EXPECT_EQ(rollout.summary().failures, 0U);
  rollout.finish(3, Outcome::refused);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 5"));
  rollout.finish(4, Outcome::refused);
  EXPECT_TRUE(rollout.rollout().paused);
}

TEST(RolloutEngine, ABudgetInPercentIsOfAllDomains) {
  Plan plan = plain();
  plan.limits.budget = {10, Amount::Unit::percent};
  EXPECT_EQ(Rollout(plan, domains(40)).summary().budget, 4U);
}

TEST(RolloutEngine, AbortsForGoodWhenAskedTo) {
  Plan plan = with_failures(OnFailure::abort, 0);
  plan.limits.parallel = 2;
  Rollout rollout(plan, domains(3));
  rollout.finish(0, Outcome::refused);
  EXPECT_EQ(rollout.state(2), State::left_alone);
  EXPECT_EQ(rollout.rollout().course, Course::aborted);
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_FALSE(rollout.rollout().finished);
  rollout.patch(1);
  EXPECT_EQ(rollout.state(1), State::done);
  EXPECT_TRUE(rollout.rollout().finished);
}

TEST(RolloutEngine, AFailedCanaryIsAlwaysTooMuch) {
  for (const OnFailure on_failure : {OnFailure::pause, OnFailure::abort, OnFailure::rollback}) {
    Plan plan = with_canary(0s);
    plan.limits.budget = {100};
    plan.on_failure = on_failure;
    Rollout rollout(plan, {domain(0, 0), domain(0)});
    rollout.finish(0, Outcome::stalled_reverted);
    EXPECT_EQ(rollout.rollout().cause, Cause::canary);
    EXPECT_THAT(rollout.done(), IsEmpty());
  }
}

// Rollback.

TEST(RolloutEngine, RollsBackNewestFirstWithinTheLimits) {
  Plan plan = with_failures(OnFailure::rollback, 0);
  plan.limits.parallel = 1;
  Rollout rollout(plan, domains(5));
  rollout.patch(0);
  rollout.patch(1);
  rollout.finish(2);
  rollout.check(2, Health::fail);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 2"));
  EXPECT_EQ(rollout.state(4), State::left_alone);
  rollout.finish(2);
  EXPECT_EQ(rollout.state(2), State::reverted);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 1"));
  rollout.finish(1);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
  EXPECT_FALSE(rollout.rollout().finished);
  rollout.finish(0);
  EXPECT_TRUE(rollout.rollout().finished);
}

TEST(RolloutEngine, KnowsWhatIsNewestAfterARestart) {
  Plan plan = plain();
  plan.limits.parallel = 1;
  Rollout rollout(plan, domains(2));
  rollout.patch(0);
  rollout.restart();
  rollout.look(1, Guest::absent);
  rollout.patch(1);
  rollout.command(Command::Kind::rollback);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 1"));
}

TEST(RolloutEngine, RollsBackWhatIsInFlightWhenItEnds) {
  Rollout rollout(with_failures(OnFailure::rollback, 0), domains(4));
  rollout.finish(1);
  rollout.finish(0, Outcome::refused);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 1")) << "its watch has lost its purpose";
  rollout.finish(2);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 2"));
  rollout.finish(3, Outcome::stalled_waiting);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 3"));
  EXPECT_EQ(rollout.state(0), State::failed);
}

TEST(RolloutEngine, AFailedRevertIsTriedAgainOnlyOnCommand) {
  Rollout rollout(plain(), domains(1));
  rollout.patch(0);
  rollout.command(Command::Kind::rollback);
  EXPECT_FALSE(rollout.rollout().finished);
  rollout.finish(0, Outcome::stalled_reverted);
  EXPECT_EQ(rollout.state(0), State::failed);
  EXPECT_TRUE(rollout.rollout().finished);
  rollout.restart();
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.command(Command::Kind::rollback);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
  rollout.finish(0);
  EXPECT_EQ(rollout.state(0), State::reverted);
}

TEST(RolloutEngine, ARollbackIsPausedAndGoesOn) {
  Plan plan = plain();
  plan.limits.parallel = 1;
  Rollout rollout(plan, domains(2));
  rollout.patch(0);
  rollout.patch(1);
  rollout.command(Command::Kind::rollback);
  rollout.command(Command::Kind::pause);
  rollout.finish(1);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
}

TEST(RolloutEngine, WhatWasPatchedWhileARollbackWasPausedIsNotWatchedPastIt) {
  Rollout rollout(plain(), domains(1));
  rollout.command(Command::Kind::rollback);
  rollout.command(Command::Kind::pause);
  rollout.finish(0);
  EXPECT_EQ(rollout.state(0), State::watching);
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
}

TEST(RolloutEngine, AnAbortedRolloutCanBeRolledBack) {
  Rollout rollout(plain(), domains(1));
  rollout.command(Command::Kind::abort);
  rollout.patch(0);
  rollout.command(Command::Kind::rollback);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0"));
}

// Commands.

TEST(RolloutEngine, APausedRolloutBeginsNothingAndEndsWhatIsInFlight) {
  Plan plan = plain();
  plan.limits.parallel = 1;
  Rollout rollout(plan, domains(2));
  rollout.command(Command::Kind::pause);
  EXPECT_EQ(rollout.rollout().cause, Cause::command);
  EXPECT_EQ(rollout.rollout().text, "somebody");
  rollout.patch(0);
  EXPECT_EQ(rollout.state(0), State::done);
  EXPECT_EQ(rollout.wakes_up_in(), std::nullopt);
  rollout.command(Command::Kind::resume);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 1"));
  EXPECT_EQ(rollout.rollout().cause, Cause::none);
}

// Connections.

TEST(RolloutEngine, ALostConnectionHoldsUpNobodyElse) {
  Plan plan = plain();
  plan.limits.parallel = 2;
  Rollout rollout(plan, {domain(0), domain(0), domain(1), domain(1)});
  EXPECT_THAT(rollout.done(), ElementsAre("apply 0", "apply 1"));
  rollout.feed(ConnectionLost{0, "no answer"});
  EXPECT_EQ(rollout.state(0), State::unknown);
  EXPECT_EQ(rollout.record(0).text, "no answer");
  EXPECT_THAT(rollout.done(), ElementsAre("apply 2", "apply 3"));
}

TEST(RolloutEngine, WhatALostConnectionLeftBehindFailsAtItsLimit) {
  Plan plan = plain();
  plan.limits.budget = {2};
  plan.limits.parallel_per_connection = 1;
  plan.waves = {Wave{}, Wave{}};
  Rollout rollout(plan, {domain(0), domain(0), domain(1, 2)});
  rollout.feed(ConnectionLost{0, "no answer"});
  EXPECT_EQ(rollout.wakes_up_in(), 600s);
  rollout.wait(599s);
  EXPECT_EQ(rollout.state(1), State::waiting);
  rollout.wait(1s);
  for (const DomainId id : {0U, 1U}) {
    EXPECT_EQ(rollout.state(id), State::failed);
    EXPECT_EQ(rollout.record(id).outcome, Outcome::unreachable);
  }
  EXPECT_TRUE(rollout.record(0).touched);
  EXPECT_FALSE(rollout.record(1).touched);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 2")) << "the wave is over";
}

TEST(RolloutEngine, AResumeGivesALostConnectionItsTimeAnew) {
  Plan plan = plain();
  plan.limits.budget = {9};
  Rollout rollout(plan, {domain(0), domain(1)});
  rollout.feed(ConnectionLost{0, "no answer"});
  rollout.command(Command::Kind::pause);
  rollout.wait(500s);
  rollout.command(Command::Kind::resume);
  rollout.wait(599s);
  EXPECT_EQ(rollout.state(0), State::unknown);
  rollout.wait(1s);
  EXPECT_EQ(rollout.state(0), State::failed);
}

TEST(RolloutEngine, ALostConnectionSpendsNoMoreThanTheBudget) {
  Plan plan = with_failures(OnFailure::pause, 1);
  plan.limits.parallel_per_connection = 1;
  Rollout rollout(plan, domains(4));
  rollout.feed(ConnectionLost{0, "no answer"});
  rollout.wait(600s);
  EXPECT_EQ(rollout.summary().failures, 2U);
  EXPECT_EQ(rollout.state(3), State::waiting);
  EXPECT_TRUE(rollout.rollout().paused);
}

TEST(RolloutEngine, LooksAgainSoonAndThenLessOften) {
  Rollout rollout(plain(), domains(1));
  rollout.restart();
  for (const std::chrono::seconds gap : {2s, 2s, 4s, 8s, 16s, 30s, 30s}) {
    rollout.look(0, Guest::pending);
    EXPECT_EQ(rollout.wakes_up_in(), gap);
    rollout.wait(gap);
    EXPECT_THAT(rollout.done(), ElementsAre("look 0"));
  }
}

struct LookRow {
  State before;
  Guest guest;
  State state;
};

void make(Rollout& rollout, State before) {
  if (before != State::applying) {
    rollout.finish(0);
  }
  if (before == State::reverting) {
    rollout.check(0, Health::pass);
    rollout.command(Command::Kind::rollback);
  }
  ASSERT_EQ(rollout.state(0), before);
}

TEST(RolloutEngine, ALookSettlesWhatWasInFlight) {
  for (const LookRow& row : {
           LookRow{State::applying, Guest::in_force, State::watching},
           LookRow{State::applying, Guest::absent, State::applying},
           LookRow{State::applying, Guest::off, State::failed},
           LookRow{State::applying, Guest::pending, State::unknown},
           LookRow{State::applying, Guest::unreachable, State::unknown},
           LookRow{State::watching, Guest::in_force, State::watching},
           LookRow{State::watching, Guest::absent, State::failed},
           LookRow{State::watching, Guest::off, State::failed},
           LookRow{State::reverting, Guest::in_force, State::reverting},
           LookRow{State::reverting, Guest::absent, State::reverting},
           LookRow{State::reverting, Guest::unreachable, State::unknown},
       }) {
    for (const bool killed : {false, true}) {
      SCOPED_TRACE(fmt::format("{}, then {}, killed {}", to_string(row.before),
                               static_cast<int>(row.guest), killed));
      Rollout rollout(plain(), domains(1));
      make(rollout, row.before);
      if (killed) {
        rollout.restart();
      } else {
        rollout.feed(ConnectionLost{0, "no answer"});
        EXPECT_THAT(rollout.done(), IsEmpty());
        rollout.feed(ConnectionUp{0});
      }
      ASSERT_EQ(rollout.state(0), State::unknown);
      EXPECT_EQ(rollout.record(0).before, row.before);
      EXPECT_THAT(rollout.done(), ElementsAre("look 0")) << "nothing before the look";
      rollout.look(0, row.guest);
      EXPECT_EQ(rollout.state(0), row.state);
    }
  }
}

TEST(RolloutEngine, LooksAgainUntilItsLimit) {
  Rollout rollout(plain(), domains(1));
  rollout.restart();
  int looks = 0;
  for (; rollout.state(0) == State::unknown; rollout.wait(30s)) {
    if (!rollout.done().empty()) {
      ++looks;
      rollout.look(0, Guest::pending);
    }
  }
  EXPECT_EQ(looks, 21);
  EXPECT_EQ(rollout.record(0).outcome, Outcome::stalled_waiting);
  EXPECT_TRUE(rollout.record(0).touched);
}

TEST(RolloutEngine, ALookWithoutAnAnswerIsRepeated) {
  Rollout rollout(plain(), domains(1));
  rollout.restart();
  rollout.wait(60s);
  EXPECT_THAT(rollout.done(), IsEmpty());
  rollout.wait(30s);
  EXPECT_THAT(rollout.done(), ElementsAre("look 0"));
}

TEST(RolloutEngine, AnApplyThatIsCutOffEachTimeIsTriedThrice) {
  Rollout rollout(plain(), domains(1));
  for (int attempt = 1; attempt <= 3; ++attempt) {
    ASSERT_EQ(rollout.state(0), State::applying);
    rollout.restart();
    rollout.look(0, Guest::absent);
  }
  EXPECT_EQ(rollout.state(0), State::failed);
  EXPECT_EQ(rollout.record(0).outcome, Outcome::unreachable);
  EXPECT_FALSE(rollout.record(0).touched);
}

TEST(RolloutEngine, WhatACutOffApplyHasDoneIsOurs) {
  Rollout rollout(plain(), domains(1));
  rollout.restart();
  rollout.look(0, Guest::absent);  // and the apply on the host ends after all
  rollout.finish(0, Outcome::done, Finished::Found::in_force);
  EXPECT_EQ(rollout.state(0), State::watching);
  EXPECT_TRUE(rollout.record(0).touched);
}

TEST(RolloutEngine, AnAbortLeavesAloneWhatACutOffApplyDidNotDo) {
  Rollout rollout(plain(), domains(1));
  rollout.command(Command::Kind::abort);
  rollout.restart();
  rollout.look(0, Guest::absent);
  EXPECT_EQ(rollout.state(0), State::left_alone);
  EXPECT_TRUE(rollout.rollout().finished);
}

TEST(RolloutEngine, ARollbackLooksFirstAtWhatIsUnknown) {
  Rollout rollout(plain(), domains(1));
  rollout.feed(ConnectionLost{0, "no answer"});
  rollout.command(Command::Kind::rollback);
  rollout.feed(ConnectionUp{0});
  EXPECT_THAT(rollout.done(), ElementsAre("look 0"));
  rollout.look(0, Guest::absent);
  EXPECT_THAT(rollout.done(), ElementsAre("revert 0")) << "its registration is to be forgotten";
}

// Restoring.

TEST(RolloutEngine, ARestoredRolloutGoesOnWhereItWas) {
  Plan plan = with_canary(600s);
  plan.waves = {Wave{.soak = 60s}, Wave{}};
  plan.limits.budget = {1};
  Rollout rollout(plan, {domain(0, 0), domain(0), domain(0), domain(0, 2)});
  rollout.patch(0);
  rollout.wait(300s);
  rollout.check(0, Health::pass);
  rollout.restart();
  EXPECT_EQ(rollout.wakes_up_in(), 150s) << "the soak";
  rollout.wait(300s);
  rollout.check(0, Health::pass);
  rollout.finish(1, Outcome::refused);
  rollout.command(Command::Kind::pause);
  const Summary before = rollout.summary();
  rollout.patch(2);
  rollout.restart();
  EXPECT_THAT(rollout.done(), IsEmpty());
  EXPECT_EQ(rollout.summary().failures, before.failures);
  EXPECT_EQ(rollout.summary().rollout, before.rollout);
  rollout.command(Command::Kind::resume);
  rollout.wait(60s);
  EXPECT_THAT(rollout.done(), ElementsAre("apply 3"));
}

TEST(RolloutEngine, JournalsWhatItBeginsInTheSameStep) {
  Engine engine(plain(), domains(1), kBegin);
  const Step step = engine.handle(ConnectionUp{0}, kBegin + 5s);
  ASSERT_EQ(step.domains.size(), 1U);
  EXPECT_EQ(step.domains[0].record.state, State::applying);
  EXPECT_EQ(step.domains[0].record.since, kBegin + 5s);
  EXPECT_TRUE(step.domains[0].record.touched);
  EXPECT_EQ(step.actions.size(), 1U);
}

TEST(RolloutEngine, AnswersThatAreOutOfDateChangeNothing) {
  Rollout rollout(plain(), domains(1));
  const OperationId apply = rollout.operation(0);
  const auto ignores = [&rollout](const Event& event) {
    const StateCounts before = rollout.summary().domains;
    rollout.feed(event);
    EXPECT_THAT(rollout.done(), IsEmpty());
    EXPECT_EQ(rollout.summary().domains, before);
  };
  ignores(Finished{0, apply + 1, Outcome::done, "text"});
  ignores(Finished{0, 0, Outcome::done, "text"});
  ignores(Finished{9, apply, Outcome::done, "text"});
  ignores(Looked{0, apply, Guest::absent, "text"});
  ignores(HealthVerdict{0, apply, Health::fail, "text"});
  ignores(ConnectionLost{9, "text"});
  ignores(ConnectionUp{9});
  ignores(ConnectionUp{0});
  rollout.finish(0);
  ignores(Finished{0, apply, Outcome::refused, "text"});
  EXPECT_EQ(rollout.state(0), State::watching);
}

TEST(RolloutEngine, SummarizesEachWave) {
  Plan plan = with_canary(0s);
  plan.limits.parallel = 1;
  Rollout rollout(plan, {domain(0, 0), domain(0), domain(0)});
  rollout.patch(0);
  const Summary summary = rollout.summary();
  ASSERT_EQ(summary.waves.size(), 2U);
  EXPECT_EQ(summary.waves[0].of(State::done), 1U);
  EXPECT_EQ(summary.waves[1].of(State::applying), 1U);
  EXPECT_EQ(summary.waves[1].of(State::waiting), 1U);
  EXPECT_EQ(summary.domains.of(State::done), 1U);
  EXPECT_EQ(summary.at_work, 1U);
  EXPECT_EQ(summary.next_wake_up, kBegin + 600s);
}

TEST(RolloutEngine, EachStateHasAWordOfItsOwn) {
  for (std::size_t state = 0; state < kDomainStates; ++state) {
    EXPECT_EQ(parse_domain_state(to_string(static_cast<State>(state))), static_cast<State>(state));
  }
  EXPECT_EQ(parse_domain_state("patched"), std::nullopt);
}

}  // namespace
}  // namespace vpatch::rollout
