// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/kernel/livepatch.h"
#include "vmm-agent/assist/policy.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch {

/// One task that the transition waits for, or waited for, as it was last seen.
struct PendingSeen {
  using TimePoint = std::chrono::steady_clock::time_point;

  introspect::Task task;
  bool on_cpu = false;
  std::optional<introspect::BlockReason> reason{};  ///< nothing: the kernel would move it
  std::string why{};                                ///< the same for people
  std::vector<std::string> stack{};  ///< innermost first; named only where it stays pending
  TimePoint first{}, last{};         ///< when it was first and last seen pending
  TimePoint running_since{};         ///< while on_cpu
  std::uint32_t kicks = 0;

  TaskKind kind() const;
  PendingView view(TimePoint now) const;
};

/// Follows who is pending through one transition. Costs the guest nothing; one thread.
class TransitionObserver {
 public:
  using TimePoint = PendingSeen::TimePoint;

  explicit TransitionObserver(GuestView& view) : view_(view) {}

  /// The words of kernel/livepatch/transition.c that say what runs.
  Result<introspect::TransitionNow> now() const;

  /// Name of the livepatch whose transition `now` is; empty when that is not to be told yet. Begins
  /// anew with another patch or direction.
  std::string follow(const introspect::TransitionNow& now, TimePoint at);

  /// Looks at all pending tasks. Nobody is waited for before the kernel's first pass is over.
  /// `kernel_at_work`: klp_mutex is held. Errors are passing: look again.
  Result<void> look(TimePoint at, bool first_pass, bool kernel_at_work);

  /// Names the stacks of those who have been pending for `least`; the first few only.
  void name_stacks(std::chrono::milliseconds least);

  /// What the task that holds klp_mutex is waiting for, for people.
  std::string stage(introspect::GuestVirtAddr mutex_owner, const qmp::CallOptions& calls) const;

  std::vector<PendingSeen>& pending() { return pending_; }
  /// At the last look: whether any task had moved, and whether all had, marked as pending or not.
  bool any_moved() const { return moved_ > 0; }
  bool all_moved() const { return moved_ > 0 && unmoved_ == 0; }
  /// Those pending now, those first that hold the transition up.
  PendingTasks pending_table() const;
  /// All who were pending in this transition, the longest first.
  PendingTasks history() const;
  void forget();

 private:
  void merge(const std::vector<introspect::TaskStack>& tasks, TimePoint at);
  void remember(std::unordered_map<std::uint64_t, PendingSeen>& gone);

  GuestView& view_;
  introspect::TransitionNow followed_{};
  std::string patch_;
  TimePoint forbidden_read_{};
  std::vector<introspect::ForbiddenFunction> forbidden_;
  std::size_t moved_ = 0, unmoved_ = 0;
  std::vector<PendingSeen> pending_;
  std::vector<PendingSeen> gone_;  // the longest of those who have moved
  std::size_t gone_count_ = 0;
};

}  // namespace vpatch
