// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm-agent/assist/assistance.h"
#include "vmm-agent/assist/proof.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/guardian.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch {

using Prover = std::function<SwitchProof(const PausedGuest&, const ExpectedTransition&)>;

struct SwitchRequest {
  ExpectedTransition expected;
  std::chrono::milliseconds max_pause{20};
  std::span<const introspect::VirtRange> unsafe{};  ///< of PausedGuest
  const Prover& prove;
};

/// What came of one pause.
struct SwitchOutcome {
  std::vector<SwitchedTask> switched;
  std::vector<std::string> refused;  ///< why not the others, or none
  /// Of the pause; nothing when the guest was not paused, or not by this call.
  std::optional<std::chrono::microseconds> pause;
  /// The guest could not be paused; or, with Outcome::failed_needs_look, not be resumed, or it ran
  /// while tasks were moved.
  std::optional<Error> failed;
};

/// Pauses the guest, proves which of its running tasks may be moved, and moves those: clears
/// TIF_PATCH_PENDING and writes task_struct.patch_state, in the kernel's order. Sleeping tasks are
/// looked at before the pause. All checks fail closed, and past `max_pause` nothing is written and
/// nobody asked any more.
///
/// Not done to a guest that is being migrated, to which what is written might be lost, nor in a
/// pause that somebody else has ended meanwhile. One that is ended in the last instant, between the
/// check and the writes, is told afterwards, by its events: Outcome::failed_needs_look.
SwitchOutcome pause_and_switch(GuestView& view, Domain& domain, Guardian& guardian,
                               const SwitchRequest& request, const qmp::CallOptions& calls);

}  // namespace vpatch
