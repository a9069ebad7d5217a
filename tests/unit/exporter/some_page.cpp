// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/exporter/some_page.h"

namespace vpatch::exporter {

using namespace std::chrono;

system_clock::time_point some_noon() {
  return sys_days(2026y / November / 21) + 12h;
}

StoredOperation some_operation(std::int64_t id, const std::string& verb, Outcome outcome) {
  StoredOperation operation;
  operation.id = OperationId{id};
  operation.start = {.verb = verb, .domain = "web01", .identity = "uuid-1"};
  operation.end =
      OperationEnd{.outcome = outcome, .transition_us = 15'000, .pause_us = 3'700, .pauses = 2};
  return operation;
}

SomePage::SomePage() {
  domains[{"qemu:///system", "uuid-1"}] = {
      .name = "web01",
      .up = true,
      .look = {.in_force = {{"fix_pipe", "base", "beef"}}, .pending = 0, .tainted = 4096},
      .looked_at = some_noon()};
  figures.add(some_operation(1, "apply", Outcome::done));
  fleet::RolloutLine rollout;
  rollout.name = "cve-2026-1234";
  rollout.started_at = "2026-11-21T09:41:23.500000Z";
  rollout.record.wave = 2;
  rollout.record.paused = true;
  rollout.domains.add(rollout::DomainState::done);
  rollout.domains.add(rollout::DomainState::done);
  rollout.domains.add(rollout::DomainState::left_alone);
  rollouts.push_back(rollout);
}

WatchedDomain& SomePage::web01() {
  return domains.begin()->second;
}

std::vector<prometheus::MetricFamily> SomePage::metrics() const {
  return metrics_of({.version = version,
                     .domains = domains,
                     .figures = journal_was_read ? &figures : nullptr,
                     .rollouts = rollouts,
                     .errors = errors,
                     .now = some_noon()});
}

}  // namespace vpatch::exporter
