// SPDX-License-Identifier: Apache-2.0
// For the files that implement RolloutStore only.
#pragma once

#include <bit>
#include <string>
#include <string_view>
#include <utility>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/journal/journal_file.h"

namespace vpatch::fleet {

/// The word for it in the table rollout_report.
std::string_view to_string(RolloutStore::ReportKind kind);

/// Adds those that unfinished rollouts hold, up to a hundred.
void find_overlaps(SQLite::Database& database, std::span<const std::string> identities,
                   std::vector<Overlap>& found);

/// A column of 64 bits without a sign: SQLite's integers have one.
inline std::int64_t as_column(std::uint64_t number) {
  return std::bit_cast<std::int64_t>(number);
}
inline std::uint64_t from_column(std::int64_t column) {
  return std::bit_cast<std::uint64_t>(column);
}

}  // namespace vpatch::fleet
