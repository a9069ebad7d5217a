// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/context.h"

namespace vpatch {

/// How far the running transition is.
struct TransitionProgress {
  std::string patch;
  bool patching = true;              ///< false: it is being taken back
  std::size_t tasks = 0, moved = 0;  ///< idle tasks count
  std::uint32_t kernel_retries = 0;  ///< klp_signals_cnt: the kernel's own tries, one a second
};

/// The guest as it is now, with the tasks that a running transition still waits for.
struct Status {
  GuestState guest;
  std::optional<PendingTasks> pending = PendingTasks{};  ///< unset when they could not be read
  std::string build_id{};  ///< of the kernel; empty when the agent was asked
  std::optional<TransitionProgress> transition{};
};

/// From the guest's memory: needs nothing of the guest. Looks, changes nothing, needs no lock.
/// `paused`: the guest stands still, and running tasks have a stack too.
Result<Status> read_status(GuestView& view, bool paused, const qmp::CallOptions& options);

/// From the guest agent, for a VM whose memory cannot be read.
Result<Status> ask_status(Context& context);

}  // namespace vpatch
