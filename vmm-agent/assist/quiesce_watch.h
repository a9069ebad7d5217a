// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/guest/stack_walk.h"
#include "vmm-agent/assist/assistance.h"

namespace vpatch {

/// Follows, through one transition, the tasks that are inside functions which are not changed and
/// yet were to be left: who had gone in again and was moved there.
///
/// Looks see single instants. A task that slept inside from before it was moved until after was
/// moved inside, for certain. One that ran in between may have left, been moved at its exit from
/// the kernel and come back: then "may have been" is all that can be said. Who goes in and out
/// between two looks is not seen.
class QuiesceWatch {
 public:
  explicit QuiesceWatch(std::vector<introspect::ForbiddenFunction> functions)
      : functions_(std::move(functions)) {}

  /// One look at all tasks before the transition has begun.
  void see_before(std::span<const introspect::TaskStack> tasks) { before_ = inside(tasks); }
  /// One look at all tasks while the transition to `target_state` (klp_target_state) runs.
  void see(std::span<const introspect::TaskStack> tasks, std::int32_t target_state);
  /// One look at all tasks just after it has ended: everybody has moved.
  void see_end(std::span<const introspect::TaskStack> tasks);

  /// What is to be told: "quiesce-reentered", and "quiesce-unseen" when see() was never called.
  std::vector<AssistNote> notes() const;

 private:
  /// A task inside at one look.
  struct Inside {
    introspect::Task task;
    bool asleep = false;
    std::size_t function = 0;
  };

  std::vector<Inside> inside(std::span<const introspect::TaskStack> tasks) const;
  void judge_moved(std::span<const introspect::TaskStack> tasks, const std::vector<Inside>& now,
                   std::int32_t target_state, bool ended);
  bool was_inside(const Inside& one) const;
  void tell(const Inside& one, bool certain);

  std::vector<introspect::ForbiddenFunction> functions_;
  std::vector<Inside> before_;  // inside and not moved at the last look
  std::uint64_t looks_ = 0;
  std::vector<std::string> told_;
};

}  // namespace vpatch
