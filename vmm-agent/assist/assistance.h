// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/guest/blockers.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"

namespace vpatch {

/// A task that the host has moved itself, and what proved that it might.
struct SwitchedTask {
  std::uint32_t tid = 0;
  std::string name;
  std::vector<std::string> stack;  ///< innermost first; empty for a task in user mode
};

/// Something about the assistance that the user should know. `id` is stable.
struct AssistNote {
  std::string id;
  std::string text;
  std::string hint{};
  bool serious = false;  ///< a warning

  bool operator==(const AssistNote&) const = default;
};

/// How the transitions of one patch went, as the host saw them.
struct TransitionRecord {
  bool seen = false;                       ///< a transition was seen to run
  std::chrono::microseconds lasted{};      ///< of the last one, from first to last seen
  std::chrono::microseconds completing{};  ///< the part of it after all tasks had moved
  std::chrono::microseconds paused{};      ///< all pauses together
  std::chrono::microseconds longest_pause{};
  std::uint32_t pauses = 0;
  std::uint32_t retries = 0;  ///< those that a signal is part of are not counted here
  std::uint32_t rescheds = 0;
  std::uint32_t signals = 0;
  std::uint32_t switches = 0;            ///< tasks that the host has moved
  std::vector<SwitchedTask> switched{};  ///< the first of them
  PendingTasks pending{};                ///< everybody seen pending, the longest first
  std::vector<AssistNote> notes{};
};

/// How a wait for a transition ended.
struct AssistedEnd {
  enum class How : std::uint8_t { ended, timed_out, interrupted };
  How how = How::ended;
  PendingTasks pending{};  ///< who is pending still, those first that hold it up
  std::string stage{};     ///< what the kernel is waiting for, where all tasks have moved
};

/// Watches the transitions of one livepatch from outside, and helps them to their end. The one
/// implementation reads guest memory; tests put a fake in its place.
///
/// Between begin() and the end of finish() the guest's memory and monitor are its own: nobody else
/// may use the GuestView, nor pause the domain.
class Assistance {
 public:
  using Progress = std::function<void(std::string_view)>;

  Assistance() = default;
  Assistance(const Assistance&) = delete;
  Assistance& operator=(const Assistance&) = delete;
  virtual ~Assistance() = default;

  /// Gets ready what takes time, so that the next begin() takes none.
  virtual void prepare(const std::stop_token& stop) = 0;

  /// Has the next begin() watch also who is inside `functions`, which no task is to be in while it
  /// is moved, and tell it in the record's notes.
  virtual void watch_inside(std::vector<introspect::ForbiddenFunction> functions) = 0;

  /// To be called before the livepatch `patch` is loaded or disabled; returns once all is ready.
  virtual void begin(const std::string& patch, const std::stop_token& stop) = 0;

  /// After that change: waits until no transition of the patch runs. An error means that the guest
  /// can no longer be watched; the transition goes on by itself then.
  virtual Result<AssistedEnd> await(std::chrono::milliseconds limit, const std::stop_token& stop,
                                    const Progress& progress) = 0;

  /// Ends watching; also without begin(), and again.
  virtual TransitionRecord finish() = 0;
};

}  // namespace vpatch
