// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/guest/guest_state.h"
#include "vmm-agent/operation/finding.h"
#include "vmm-agent/operation/guest_facts.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/patch/signature_check.h"

namespace vpatch {

/// What an apply has to do, given the guest as it is.
enum class ApplyAction : std::uint8_t {
  load,           ///< deliver and load the module
  replace_stale,  ///< unload the module of this name that is loaded but not in force, then load
  join,           ///< this very patch is in transition already: watch it to its end
  none,           ///< this very patch is in force already
  refuse,         ///< a finding of Severity::error stands against it
};

std::string_view to_string(ApplyAction action);

struct ApplyPlan {
  ApplyAction action = ApplyAction::refuse;
  std::vector<Finding> findings;
  std::vector<std::string> replaces;  ///< patches in force that this one will take the place of
};

struct PreflightOptions {
  /// Let a non-replace patch change a function that another patch changes.
  bool allow_stacking = false;
  /// Let an older cumulative patch take the place of a newer one although callbacks or states may
  /// not survive that.
  bool allow_downgrade = false;
  /// Only take a file with a good signature.
  bool require_signed = false;
  /// What became of the file's signature; unset when it was not looked at.
  std::optional<SignatureCheck> signature{};
};

/// Decides from the file and one observation of the guest; touches nothing. `loaded_build_id` is
/// the build id of the loaded module that has the file's name, empty when there is none or it has
/// none.
ApplyPlan plan_apply(const LivepatchFile& file, const GuestState& guest, const GuestFacts& facts,
                     const std::string& loaded_build_id, const PreflightOptions& options);

}  // namespace vpatch
