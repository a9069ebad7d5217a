// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/guest/cold_parts.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/kernel/livepatch.h"

namespace vpatch {

/// All that is known of a guest whose vCPUs do not run.
struct PausedGuest {
  const introspect::Look& look;                   ///< of all tasks, taken in the pause
  const introspect::LivepatchState& livepatch;    ///< read in the pause
  std::span<const introspect::VirtRange> unsafe;  ///< livepatch's and ftrace's own code, sorted
  const introspect::ColdParts& cold;              ///< looked up before the pause
};

/// The transition that was begun, and must still be the one that runs.
struct ExpectedTransition {
  introspect::GuestVirtAddr patch;  ///< its struct klp_patch
  std::int32_t target_state = -1;   ///< klp_target_state
};

/// Which tasks the host may move, and what stands against the others.
struct SwitchProof {
  struct Refusal {
    std::size_t task = 0;  ///< index in the look
    std::string why;
  };
  std::vector<std::size_t> tasks;  ///< indexes in the look
  std::vector<Refusal> refused;    ///< pending tasks that run, and may not be moved
  std::string why_none;            ///< what forbids to move any task; empty when nothing does
};

/// Proves for each pending task that runs that moving it keeps the kernel's promise: that no task
/// runs old and new code within one call chain that holds a changed function. Without side effects.
///
/// No task at all may be moved unless the transition is `expected`'s, nobody holds klp_mutex, the
/// task list is complete, and no livepatch or ftrace code is on any stack. A task may be moved only
/// if its CPU runs it, its stack is reliable, and no function on it, nor its cold part, is
/// forbidden by the kernel's own rule (introspect::forbidden_now()). Sleeping tasks are left to the
/// kernel.
SwitchProof prove_switch(const PausedGuest& guest, const ExpectedTransition& expected);

}  // namespace vpatch
