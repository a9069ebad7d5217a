// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "vmm-agent/operation/apply.h"

namespace vpatch {

/// The empty cumulative livepatch that is installed in guests beside vpatch_guest.
inline constexpr std::string_view kNopModule = "vpatch_nop";

// Going back by rolling forward: a cumulative livepatch takes the place of all that is in force.
// The caller holds the domain's lock.

/// Puts a cumulative livepatch in force, also one older than what it replaces. Outcome::refused for
/// one that is not cumulative, or is in force below additions, which it would not take back.
/// With `settle` the guest is watched after it, as by apply_and_watch().
Report revert_to(Context& context, const LivepatchFile& file, ApplyOptions options,
                 std::optional<std::chrono::milliseconds> settle = {});

/// Puts an empty cumulative livepatch in force, so that the guest runs its original code again:
/// `nop`, or the one that the guest has installed for its kernel. Outcome::refused where that has
/// none, and for a livepatch that is not empty.
Report replace_with_nop(Context& context, const std::optional<LivepatchFile>& nop,
                        const ApplyOptions& options);

}  // namespace vpatch
