// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "introspect/guest/blockers.h"

namespace vpatch {

/// How far vpatch goes to end a transition early.
enum class AssistMode : std::uint8_t {
  off,   ///< it only watches
  kick,  ///< it asks the guest module; it never pauses the guest nor writes the kernel's data
  full,  ///< it may also pause the guest for a moment and move a busy task itself
};

struct AssistOptions {
  AssistMode mode = AssistMode::full;
  /// How long a sleeper inside a changed function is left alone before it is signalled.
  std::chrono::milliseconds signal_after{50};
  /// How long a busy task is left to the kernel's retries before the guest is paused to move it; at
  /// 0 no retry is tried before.
  std::chrono::milliseconds switch_after{20};
  /// The longest pause that is meant. Past it the guest runs on, whatever was to be done.
  std::chrono::milliseconds max_pause{20};
};

enum class TaskKind : std::uint8_t { user, kthread, idle };

/// A task not yet moved, as much of it as the policy looks at.
struct PendingView {
  TaskKind kind = TaskKind::user;
  bool on_cpu = false;    ///< it runs, or ran during the look
  std::uint32_t cpu = 0;  ///< where it runs or ran last
  /// Why the kernel would not move it where it sleeps (on_stack or unreliable); nothing: it would.
  std::optional<introspect::BlockReason> held{};
  bool interruptible = false;  ///< its sleep ends with a signal, or a wake-up of a kernel thread
  std::chrono::nanoseconds pending_for{0};  ///< since it was first seen
  std::chrono::nanoseconds running_for{0};  ///< since it was first seen running, without a sleep
  std::uint32_t kicks = 0;                  ///< rescheds and retries aimed at it while it ran
};

/// One look at a guest in transition.
struct Observation {
  bool kernel_at_work = false;  ///< klp_mutex is held
  std::vector<PendingView> pending;
  bool mailbox = false;      ///< the guest module takes commands
  bool outstanding = false;  ///< it has not acknowledged the last one yet
  std::chrono::nanoseconds since_retry = std::chrono::nanoseconds::max();  ///< a signal is one too
  std::chrono::nanoseconds since_resched = std::chrono::nanoseconds::max();
  std::chrono::nanoseconds since_signal = std::chrono::nanoseconds::max();
  std::chrono::nanoseconds since_pause = std::chrono::nanoseconds::max();
  /// The kernel's next pass signals all that it cannot move, as each 15th does.
  bool next_pass_signals = false;
  std::uint32_t retries = 0;  ///< so far
  std::uint32_t signals = 0;
  std::uint32_t pauses = 0;  ///< tried so far, whatever came of them
  bool may_pause = false;    ///< a guardian stands by, and nothing is known that forbids it
};

enum class Act : std::uint8_t { wait, retry, resched, signal, pause_and_switch };

/// A stable word for each, such as "pause-and-switch".
std::string_view to_string(Act act);

/// What to do now.
struct Action {
  Act act = Act::wait;
  std::optional<std::uint32_t> cpu{};  ///< of a retry: where it is to run; nothing: anywhere
  std::vector<std::uint32_t> cpus{};   ///< of a resched: which, in rising order
  std::vector<std::size_t> tasks{};    ///< whom a retry on a CPU, resched or switch is for: indexes

  bool operator==(const Action&) const = default;
};

/// No two retries come closer than this.
inline constexpr std::chrono::milliseconds kRetryGap{2};

/// The whole policy of assisted transitions: one action from one observation, without side effects.
/// The kernel stays the judge: all but pause_and_switch only ask it to look again.
Action decide(const Observation& seen, const AssistOptions& options);

}  // namespace vpatch
