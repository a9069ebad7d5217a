// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// What to do with a transition that does not end in time.
enum class OnStall : std::uint8_t { revert, wait };

struct TransitionEnd {
  enum class How : std::uint8_t { ended, timed_out, interrupted };
  How how = How::ended;
  PendingTasks blockers;            ///< when it did not end
  std::string stage;                ///< what the kernel waits for, where all tasks have moved
  std::optional<GuestPatch> patch;  ///< as last seen; unset when the kernel no longer lists it

  bool enabled() const { return patch && patch->enabled; }
  /// All tasks have moved, and the kernel cannot go back: it holds its lock until it is done.
  bool completing() const { return how != How::ended && !stage.empty(); }
};

/// Watches the transition of `patch` until it ends, `limit` is over, or (if `interruptible`)
/// Ctrl-C: with the context's assistance where there is one, else by asking the agent again and
/// again. An agent that falls silent is asked again until `limit`, and for kPatience at least;
/// only then its error is returned.
Result<TransitionEnd> await_transition(Context& context, const std::string& patch,
                                       std::chrono::milliseconds limit, bool interruptible);

/// "; blocked by " with the first blocker, or the stage the kernel is in; empty when neither is
/// known.
std::string held_up_by(const TransitionEnd& end);

/// Has the context's assistance, where there is one, watch for transitions of `patch`: to be called
/// before one is begun.
void begin_assistance(Context& context, const std::string& patch);
/// Ends that, and puts into the report what it saw, did and could not do.
void end_assistance(Context& context, Report& report);

/// " (transition 12.3 ms, guest paused 2.1 ms)", as far as it is known.
std::string how_it_went(const Report& report);

/// Guest::set_enabled(), asked again when the agent fails unless the guest shows that it was done.
Result<ToolResult> set_enabled_patiently(Context& context, const std::string& patch, bool enabled);

/// Takes a loaded livepatch back: disables it (a running transition is reversed), waits, unloads
/// its module. Ok only when the guest no longer has it.
Result<void> take_back(Context& context, const std::string& patch);

/// Unloads a module, trying for a few seconds: the kernel drops its last reference a moment after a
/// transition.
Result<void> unload_module(Context& context, const std::string& module);

/// The transition's duration as the guest module measured it, if it saw the end of this patch's.
std::optional<std::uint64_t> measured_transition(const GuestState& state, const std::string& patch,
                                                 std::string_view result);

}  // namespace vpatch
