// SPDX-License-Identifier: Apache-2.0
// The parts of plan_apply(): each looks at one thing and adds what it has to say.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/operation/preflight.h"

namespace vpatch {

using Findings = std::vector<Finding>;

inline constexpr std::string_view kAllowStacking = "--allow-stacking";
inline constexpr std::string_view kAllowDowngrade = "--allow-downgrade";

/// From the file alone: its signature, what it lists twice, its callbacks, what is unknown of it.
void check_file(const LivepatchFile& file, const PreflightOptions& options, Findings& findings);

/// Functions that other patches change too.
void check_conflicts(const LivepatchFile& file, const GuestState& guest,
                     const PreflightOptions& options, Findings& findings);

/// What the patches in force mean for this one: states, downgrade, callbacks that will not run, and
/// what a forced transition has left behind.
void check_patches_in_force(const LivepatchFile& file, const GuestState& guest,
                            const GuestFacts& facts, const PreflightOptions& options,
                            Findings& findings);

/// Whether every function and symbol that the file names is there, once, and can be redirected.
void check_functions(const LivepatchFile& file, const GuestState& guest, const GuestFacts& facts,
                     Findings& findings);

}  // namespace vpatch
