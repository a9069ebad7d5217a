// SPDX-License-Identifier: Apache-2.0
// The groups that a domain is in for rollouts, as vpatch's element in libvirt's <metadata> holds
// them: <groups><group>web</group>...</groups>. Nothing here does I/O.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

/// The namespace of the element.
inline constexpr const char* kMetadataUri = "urn:vpatch:rollout";
inline constexpr std::size_t kMaxGroups = 64;
inline constexpr std::size_t kMaxGroupName = 128;  ///< in bytes

/// Whether vpatch gives a group this name: 1 to kMaxGroupName letters, digits, dots, dashes and
/// underscores, a letter or a digit first.
bool is_group_name(std::string_view name);

/// The groups that the element names, without white space around them: the first kMaxGroups. Others
/// may have written it: the names may be any text. Outcome::refused when `xml` is not well formed.
Result<std::vector<std::string>> groups_of(std::string_view xml);

/// The element; the reverse of groups_of().
std::string metadata_of(const std::vector<std::string>& groups);

/// What is to become of a domain's groups.
struct GroupChange {
  bool replace = false;  ///< none of the former stays
  std::vector<std::string> remove{};
  std::vector<std::string> add{};

  bool changes() const { return replace || !remove.empty() || !add.empty(); }
};

/// The groups after the change, each once, in their order. Outcome::refused when they are more than
/// kMaxGroups.
Result<std::vector<std::string>> changed(const std::vector<std::string>& groups,
                                         const GroupChange& change);

}  // namespace vpatch
