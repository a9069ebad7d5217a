// SPDX-License-Identifier: Apache-2.0
// The parts of the HTML report, one file each. Everything is appended to one text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/fleet/measured_times.h"
#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/fleet/rollout_words.h"

namespace vpatch::fleet {

/// All that the parts are made of.
struct ReportFacts {
  const StoredRollout& rollout;
  const std::vector<RolloutEvent>& events;
  rollout::Summary summary{};
  std::vector<MeasuredTimes> times{};  ///< of each domain
  Moment begin{}, end{};               ///< of the rollout, or till now; `end` is later
  bool over = false;
};

const std::vector<RolloutDomain>& domains_of(const ReportFacts& facts);

/// What `style` has as its content.
std::string_view report_style();

void append_summary(std::string& page, const ReportFacts& facts);
void append_failures(std::string& page, const ReportFacts& facts);
void append_timeline(std::string& page, const ReportFacts& facts);
void append_plots(std::string& page, const ReportFacts& facts);

/// A bar of one colour and pattern for each group that is there.
void append_bar(std::string& page, const GroupCounts& counts);
/// A state as a word with its colour.
std::string state_mark(rollout::DomainState state);
/// The class of a group in the style: "g-patched", ...
std::string_view class_of(Group group);

}  // namespace vpatch::fleet
