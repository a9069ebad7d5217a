// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include "vmm-agent/exporter/domain_watch.h"
#include "vmm-agent/exporter/journal_figures.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::exporter {

/// How long a rollout stays on the page after its end.
inline constexpr std::chrono::hours kRolloutKept{24};

/// All that a page tells.
struct PageFacts {
  const std::string& version;  ///< of vpatch
  const std::map<DomainKey, WatchedDomain>& domains;
  const Figures* figures;  ///< null before the journal was read: a counter must not begin at 0
  std::span<const fleet::RolloutLine> rollouts;
  const std::map<std::string, std::uint64_t>& errors;  ///< by source
  std::chrono::system_clock::time_point now;
};

/// The metrics of docs/exporter.md; each is there, with its help, also where it has no value.
std::vector<prometheus::MetricFamily> metrics_of(const PageFacts& facts);

/// In Prometheus' text format, version 0.0.4.
std::string render(const std::vector<prometheus::MetricFamily>& metrics);

}  // namespace vpatch::exporter
