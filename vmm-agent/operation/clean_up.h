// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// The end of an apply whose patch is in force and has replaced others.
struct CleanUp {
  std::string patch;
  std::chrono::milliseconds grace{10'000};
  std::optional<GuestMark> mark{};           ///< from before the load; unset: no look at memory
  std::vector<ForcedPatch> forced_before{};  ///< known before the load
  /// What is wrong in the guest, as its agent tells.
  std::function<Result<void>()> find_problem;
};

/// The livepatches with a transition that was forced: from guest memory, or as far as `state` shows
/// it where that cannot be read.
std::vector<ForcedPatch> find_forced(Context& context, const GuestState& state);

/// Unloads the modules of `report.replaced`, after a grace time in which a task may still be on its
/// way out of the old code and the guest's health is watched: new trouble in its log, new taint,
/// the patch no longer in force, an agent that no longer answers. Any of these, an interruption, or
/// a transition that was ever forced keeps all of them loaded. Then proves from guest memory that
/// nothing of them is left. What it finds goes into the report; trouble is failed_needs_look.
void clean_up_replaced(Context& context, const CleanUp& how, Report& report);

/// What of the livepatches `gone` guest memory still shows, as findings and, where it is wrong,
/// outcome of the report.
void prove_gone(Context& context, const std::vector<std::string>& gone,
                const std::optional<GuestMark>& mark, Report& report);

}  // namespace vpatch
