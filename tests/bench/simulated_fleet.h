// SPDX-License-Identifier: Apache-2.0
// A fleet without virtual machines, for the rollout's engine: it answers the engine's actions after
// random times, breaks as fleets do, and holds each step against what a rollout must never do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm-agent/rollout/engine.h"

namespace vpatch::test {

/// Chances are from 0 to 1.
struct FleetScenario {
  rollout::Plan plan;  ///< a window must be in UTC and on all days
  std::uint32_t domains = 40;
  std::uint32_t connections = 5;
  std::uint32_t canary = 0;  ///< how many domains

  // Of each domain, at first:
  double off = 0, unmatched = 0, in_force = 0;
  // Of each apply:
  double apply_fails = 0;  ///< with any of the exit codes
  double apply_hangs = 0;  ///< until it is cancelled, or for ever
  double found_off = 0;    ///< the domain was shut down while it waited
  // Of each revert:
  double revert_fails = 0;
  // Of each check:
  double unhealthy = 0, inconclusive = 0;
  double reboots = 0;  ///< also of each look: the guest has lost the patch
  double silent = 0;   ///< also of each look: no answer comes
  // Of each step:
  double connection_lost = 0;  ///< of a random one
  double commands = 0;         ///< an operator pauses, aborts or rolls back
  double crashes = 0;          ///< of the driver, at one of its instants
  // Of each lost connection:
  double stays_lost = 0;

  double abort_share = 0.1;     ///< of an operator's commands
  double rollback_share = 0.1;  ///< the same
};

struct FleetReport {
  std::vector<std::string> violations;  ///< what must never be; the first few
  rollout::Summary summary;
  std::uint64_t events = 0;
  std::uint64_t applies = 0, reverts = 0, looks = 0;
  std::uint64_t crashes = 0, resumes = 0, connections_lost = 0;
  std::chrono::seconds lasted{0};  ///< of simulated time
};

/// The same for the same scenario and seed.
FleetReport run_fleet(const FleetScenario& scenario, std::uint64_t seed);

}  // namespace vpatch::test
