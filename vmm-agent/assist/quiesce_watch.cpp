// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/quiesce_watch.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vpatch {
namespace {

using introspect::Task;
using introspect::TaskStack;

constexpr std::size_t kToldAtMost = 16;

bool same_task(const Task& one, const Task& other) {
  return one.address == other.address && one.tid == other.tid && one.start_ns == other.start_ns;
}

}  // namespace

std::vector<QuiesceWatch::Inside> QuiesceWatch::inside(std::span<const TaskStack> tasks) const {
  std::vector<Inside> found;
  for (const introspect::Blocker& one : introspect::find_blockers(tasks, functions_)) {
    if (one.reason == introspect::BlockReason::on_stack) {
      const TaskStack& stack = tasks[one.task];
      found.push_back({stack.task, stack.activity == introspect::Activity::asleep, one.function});
    }
  }
  return found;
}

bool QuiesceWatch::was_inside(const Inside& one) const {
  return std::ranges::any_of(
      before_, [&one](const Inside& other) { return same_task(other.task, one.task); });
}

void QuiesceWatch::see(std::span<const TaskStack> tasks, std::int32_t target_state) {
  const auto now = inside(tasks);
  judge_moved(tasks, now, target_state, false);
  if (looks_++ == 0) {
    for (const Inside& one : now) {
      if (one.task.patch_state == target_state && !was_inside(one)) {
        tell(one, false);
      }
    }
  }
  before_.clear();
  std::ranges::copy_if(now, std::back_inserter(before_), [target_state](const Inside& one) {
    return one.task.patch_state != target_state;
  });
}

void QuiesceWatch::see_end(std::span<const TaskStack> tasks) {
  const auto now = inside(tasks);
  judge_moved(tasks, now, 0, true);
  if (looks_ == 0) {
    for (const Inside& one : now) {
      if (!was_inside(one)) {
        tell(one, false);
      }
    }
  }
  before_.clear();
}

/// Those who were inside at the last look and have moved since.
void QuiesceWatch::judge_moved(std::span<const TaskStack> tasks, const std::vector<Inside>& now,
                               std::int32_t target_state, bool ended) {
  for (const Inside& one : before_) {
    const auto task = std::ranges::find_if(
        tasks, [&one](const TaskStack& stack) { return same_task(stack.task, one.task); });
    if (task == tasks.end() || (!ended && task->task.patch_state != target_state)) {
      continue;
    }
    const auto still = std::ranges::find_if(
        now, [&one](const Inside& other) { return same_task(other.task, one.task); });
    tell(one, still != now.end() && one.asleep && still->asleep &&
                  still->task.switches == one.task.switches);
  }
}

void QuiesceWatch::tell(const Inside& one, bool certain) {
  if (told_.size() < kToldAtMost) {
    told_.push_back(fmt::format("{} ({}) {} with {} on its stack", one.task.name, one.task.tid,
                                certain ? "was moved" : "may have been moved",
                                functions_[one.function].name));
  }
}

std::vector<AssistNote> QuiesceWatch::notes() const {
  std::vector<AssistNote> notes;
  if (!told_.empty()) {
    notes.push_back({.id = "quiesce-reentered",
                     .text = fmt::format("{}", fmt::join(told_, "; ")),
                     .hint = "Its loop may go on with both old and new functions until it leaves.",
                     .serious = true});
  }
  if (looks_ == 0) {
    notes.push_back({.id = "quiesce-unseen",
                     .text = "the transition was over before it could be looked at: whether a task "
                             "had gone into a function to be left alone again is not known",
                     .hint = {},
                     .serious = true});
  }
  return notes;
}

}  // namespace vpatch
