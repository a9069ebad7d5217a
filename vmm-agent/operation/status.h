// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/guest/livepatch_log.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// How far the running transition is.
struct TransitionProgress {
  std::string patch;
  bool patching = true;  ///< false: it is being taken back
  /// Unset when the agent was asked. Idle tasks count.
  std::optional<std::size_t> tasks{}, moved{};
  /// klp_signals_cnt: the kernel's own tries, one a second; unset when the agent was asked.
  std::optional<std::uint32_t> kernel_retries{};
};

/// The guest as it is now, with the tasks that a running transition still waits for.
struct Status {
  GuestState guest;
  bool ordered = true;  ///< its patches are in the order in which they took effect
  std::optional<PendingTasks> pending = PendingTasks{};  ///< unset when they could not be read
  std::string build_id{};  ///< of the kernel; empty when the agent was asked
  std::optional<TransitionProgress> transition{};
  std::vector<ForcedPatch> forced{};  ///< not empty: a reboot of the guest is to be planned
  std::vector<RefusedModule> refused_modules{};  ///< since boot, as far as the log goes back
};

/// The cumulative livepatch that the others were added to: the last replace patch that is wholly in
/// force; null when there is none, or the guest does not show which patches replace.
const GuestPatch* base_of(const GuestState& guest);

/// What a patch of `guest` is to the others: "base", "addition" to it, or empty.
std::string_view role_of(const GuestState& guest, const GuestPatch& patch);

/// From the guest's memory: needs nothing of the guest. Looks, changes nothing, needs no lock.
/// `paused`: the guest stands still, and running tasks have a stack too.
Result<Status> read_status(GuestView& view, bool paused, const qmp::CallOptions& options);

/// From the guest agent, for a VM whose memory cannot be read.
Result<Status> ask_status(Context& context);

}  // namespace vpatch
