// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch::exporter {

/// Of a guest that shows more livepatches, these are told: its memory decides how many there are.
inline constexpr std::size_t kMaxLivepatches = 32;

struct LivepatchInForce {
  std::string name;
  std::string role;      ///< "base", "addition" or "none"
  std::string build_id;  ///< of its module, lower-case hexadecimal; empty when not known
};

/// What one look at a guest's memory saw, as far as it is exported. All texts are printable UTF-8.
struct DomainLook {
  std::vector<LivepatchInForce> in_force;  ///< wholly: no transition of theirs runs. Names differ.
  bool transition_running = false;
  std::optional<std::uint64_t> pending{};  ///< tasks that it waits for; unset when not readable
  bool reboot_planned = false;
  std::uint64_t tainted = 0;  ///< the kernel's mask
};

/// Takes apart what `vpatch status --json` printed. Outcome::internal when it is not that.
Result<DomainLook> parse_status(std::string_view text);

}  // namespace vpatch::exporter
