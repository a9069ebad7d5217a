// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/guest/guest_state.h"

namespace vpatch {

/// What tells that a transition of a livepatch was forced since the guest booted.
enum class ForcedSign : std::uint8_t {
  marked,       ///< klp_patch.forced is set: the kernel will never let go of its module
  kept_module,  ///< the patch is gone, and the kernel still holds a reference to its module
  log,          ///< the kernel's log says so, as long as it goes back that far
};

/// A stable word for each, such as "kept-module".
std::string_view to_string(ForcedSign sign);

/// A livepatch with a transition that was forced.
struct ForcedPatch {
  std::string patch;  ///< empty where the log does not go back to its name
  ForcedSign sign{};

  bool operator==(const ForcedPatch&) const = default;
};

/// A module that the kernel did not load because a livepatch in force could not be applied to it.
struct RefusedModule {
  std::string patch;
  std::string module;

  bool operator==(const RefusedModule&) const = default;
};

/// What the kernel's log tells of livepatches.
struct LivepatchLog {
  std::vector<std::string> forced{};     ///< each once, the oldest first
  std::vector<RefusedModule> refused{};  ///< each once, the oldest first
};

/// `lines`: the kernel's own, without the time in front or with it.
LivepatchLog parse_livepatch_log(std::span<const std::string> lines);

/// All patches whose transition was forced, as far as the guest's kernel still shows it; each once,
/// with its surest sign. A module that the kernel is about to let go of, in the milliseconds after
/// a transition, looks like a kept one: look again.
std::vector<ForcedPatch> forced_patches(const GuestState& guest, const LivepatchLog& log);

/// "the transition of p1 was forced (its module is kept by the kernel)"
std::string describe(const ForcedPatch& forced);

}  // namespace vpatch
