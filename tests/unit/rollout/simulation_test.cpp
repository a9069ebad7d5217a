// SPDX-License-Identifier: Apache-2.0
// Small fleets with all that goes wrong in large ones. The invariants are those of the simulation's
// Judge; a failure names the seed that repeats it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/bench/simulated_fleet.h"

namespace vpatch::test {
namespace {

using namespace std::chrono_literals;
using rollout::Amount;
using rollout::Course;
using rollout::DomainState;
using rollout::OnFailure;

FleetScenario quiet() {
  FleetScenario scenario;
  scenario.canary = 2;
  scenario.plan.canary = rollout::Canary{.domains = {}, .amount = Amount{2}, .soak = 600s};
  scenario.plan.waves = {{.amount = {10, Amount::Unit::percent}, .soak = 300s}, {}, {}};
  scenario.plan.limits = {.parallel = 6, .parallel_per_connection = 2, .budget = {3}};
  return scenario;
}

/// Some of everything.
FleetScenario rough() {
  FleetScenario scenario = quiet();
  scenario.off = 0.05;
  scenario.unmatched = 0.05;
  scenario.in_force = 0.1;
  scenario.apply_fails = 0.1;
  scenario.apply_hangs = 0.02;
  scenario.found_off = 0.02;
  scenario.revert_fails = 0.1;
  scenario.unhealthy = 0.01;
  scenario.inconclusive = 0.01;
  scenario.reboots = 0.01;
  scenario.silent = 0.01;
  scenario.connection_lost = 0.01;
  scenario.commands = 0.005;
  scenario.crashes = 0.02;
  scenario.stays_lost = 0.1;
  return scenario;
}

void run_seeds(const FleetScenario& scenario, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const FleetReport report = run_fleet(scenario, seed);
    ASSERT_THAT(report.violations, testing::IsEmpty()) << "seed " << seed;
  }
}

TEST(Simulation, AFleetWithoutTroubleIsPatchedWhole) {
  const FleetReport report = run_fleet(quiet(), 1);
  EXPECT_THAT(report.violations, testing::IsEmpty());
  EXPECT_EQ(report.summary.domains.of(DomainState::done), 40U);
  EXPECT_EQ(report.applies, 40U);
  EXPECT_EQ(report.looks + report.reverts, 0U);
}

TEST(Simulation, IsTheSameForTheSameSeed) {
  const FleetReport first = run_fleet(rough(), 7);
  const FleetReport second = run_fleet(rough(), 7);
  EXPECT_EQ(first.events, second.events);
  EXPECT_EQ(first.lasted, second.lasted);
  EXPECT_EQ(first.summary.domains, second.summary.domains);
}

TEST(Simulation, KeepsItsRulesWhereItPausesOnFailure) {
  run_seeds(rough(), 100);
}

TEST(Simulation, KeepsItsRulesWhereItAbortsOnFailure) {
  FleetScenario scenario = rough();
  scenario.plan.on_failure = OnFailure::abort;
  run_seeds(scenario, 100);
}

TEST(Simulation, KeepsItsRulesWhereItRollsBackOnFailure) {
  FleetScenario scenario = rough();
  scenario.plan.on_failure = OnFailure::rollback;
  run_seeds(scenario, 100);
}

TEST(Simulation, KeepsItsRulesInAWindowOverMidnight) {
  FleetScenario scenario = rough();
  rollout::MaintenanceWindow window;
  window.days.set();
  window.from = 23h;
  window.to = 30min;
  window.cutoff = 20min;
  scenario.plan.window = window;
  run_seeds(scenario, 60);
}

TEST(Simulation, SurvivesADriverThatCrashesAllTheTime) {
  FleetScenario scenario = quiet();
  scenario.crashes = 0.2;
  std::uint64_t crashes = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const FleetReport report = run_fleet(scenario, seed);
    ASSERT_THAT(report.violations, testing::IsEmpty()) << "seed " << seed;
    crashes += report.crashes;
  }
  EXPECT_GT(crashes, 600U);
}

TEST(Simulation, IsNotHeldUpByLostConnections) {
  FleetScenario scenario = quiet();
  scenario.connection_lost = 0.1;
  scenario.stays_lost = 0.3;
  scenario.plan.limits.budget = {100, Amount::Unit::percent};
  scenario.canary = 0;
  scenario.plan.canary.reset();
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const FleetReport report = run_fleet(scenario, seed);
    ASSERT_THAT(report.violations, testing::IsEmpty()) << "seed " << seed;
    // Each wave waits for per_domain at most where a connection is gone, and tries thrice.
    EXPECT_LT(report.lasted, 24h) << "seed " << seed;
  }
}

TEST(Simulation, ARollbackTakesOutAllThatItCan) {
  FleetScenario scenario = quiet();
  scenario.unhealthy = 0.05;
  scenario.plan.on_failure = OnFailure::rollback;
  int rolled_back = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const FleetReport report = run_fleet(scenario, seed);
    ASSERT_THAT(report.violations, testing::IsEmpty()) << "seed " << seed;
    if (report.summary.rollout.course == Course::back) {
      ++rolled_back;
      EXPECT_EQ(report.summary.domains.of(DomainState::done), 0U) << "seed " << seed;
      EXPECT_EQ(report.summary.domains.of(DomainState::failed), 0U) << "seed " << seed;
    }
  }
  EXPECT_GT(rolled_back, 10);
}

}  // namespace
}  // namespace vpatch::test
