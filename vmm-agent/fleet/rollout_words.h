// SPDX-License-Identifier: Apache-2.0
// What the report and the live view call things.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/rollout/engine.h"

namespace vpatch::fleet {

/// States that mean the same for a person who looks at a bar.
enum class Group : std::uint8_t {
  patched,   ///< done, already
  reverted,  ///< reverted
  failed,    ///< failed
  doubtful,  ///< inconclusive, unknown
  at_work,   ///< applying, watching, reverting
  waiting,   ///< waiting
  left_out,  ///< off, unmatched, left alone
};
inline constexpr std::size_t kGroups = 7;

Group group_of(rollout::DomainState state);
/// "patched", "reverted", "failed", "in doubt", "at work", "waiting", "left out"
std::string_view to_string(Group group);
using GroupCounts = std::array<std::uint64_t, kGroups>;
GroupCounts groups_of(const rollout::StateCounts& counts);

/// "canary", "wave 2"
std::string wave_name(std::uint32_t wave);
/// Why it is paused, was aborted or is rolled back, without a final dot; empty without a cause.
std::string cause_text(const StoredRollout& rollout);
/// How it stands or ended, in one sentence.
std::string outcome_sentence(const StoredRollout& rollout, const rollout::Summary& summary);
/// "under way", "paused", "aborted", "rolled back", "done", ...
std::string_view standing(const rollout::RolloutRecord& record);

/// The same as of stored_summary.h, with the plan as it is stored.
rollout::Summary summary_of(const StoredRollout& rollout);

/// The report that tells most about a domain: that of the revert, of the health check or of the
/// apply, whichever made it what it is; null when there is none.
const boost::json::object* telling_report(const RolloutDomain& domain);

}  // namespace vpatch::fleet
