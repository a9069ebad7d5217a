// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/exporter/exposition.h"
#include "vmm-agent/exporter/page.h"

namespace vpatch::exporter {

/// 2026-11-21T12:00:00Z
std::chrono::system_clock::time_point some_noon();
StoredOperation some_operation(std::int64_t id, const std::string& verb, Outcome outcome);

/// What a page is made of, to be changed. At first: one domain, web01, with a livepatch; one apply
/// in the journal; one rollout at work.
struct SomePage {
  SomePage();
  WatchedDomain& web01();
  std::vector<prometheus::MetricFamily> metrics() const;
  Exposition parse() const { return parse_exposition(render(metrics())); }

  std::string version = "1.2.3";
  std::map<DomainKey, WatchedDomain> domains;
  Figures figures;
  bool journal_was_read = true;
  std::vector<fleet::RolloutLine> rollouts;
  std::map<std::string, std::uint64_t> errors{
      {"journal", 0}, {"list", 2}, {"look", 0}, {"rollouts", 0}};
};

}  // namespace vpatch::exporter
