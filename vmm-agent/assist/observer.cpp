// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/observer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "introspect/guest/stack_walk.h"
#include "vmm-agent/guest/named_frames.h"

namespace vpatch {
namespace {

using introspect::BlockReason;
using introspect::Task;
using introspect::TaskStack;
using std::chrono::milliseconds;

constexpr std::size_t kRemembered = 64;
constexpr std::size_t kShown = 16;
/// The functions that are changed become more when a module is loaded in mid transition.
constexpr milliseconds kReadForbiddenEach{200};
constexpr std::uint32_t kInterruptible = 1;  // TASK_INTERRUPTIBLE

/// What the kernel waits for where one of these functions is on the stack of who completes the
/// transition; the first that is found counts.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kStages = {{
    {"sched_dynamic_klp", "until its cond_resched() calls are changed back"},
    {"klp_synchronize_transition", "until every CPU has scheduled"},
    {"schedule_on_each_cpu", "until every CPU has scheduled"},
    {"unregister_ftrace_function", "for RCU tasks, to take the ftrace hooks away"},
    {"ftrace_shutdown", "for RCU tasks, to take the ftrace hooks away"},
    {"synchronize_rcu", "for an RCU grace period"},
    {"stop_machine", "until every CPU stands still, to change kernel text"},
}};

bool same_task(const Task& one, const Task& other) {
  return one.address == other.address && one.tid == other.tid && one.start_ns == other.start_ns;
}

PendingTask described(const PendingSeen& seen) {
  return {
      .tid = seen.task.tid,
      .name = seen.task.name,
      .state = std::string(1, seen.task.state_letter()),
      .stack = seen.stack,
      .reason = seen.reason ? std::string(introspect::to_string(*seen.reason)) : "",
      .why = seen.why,
      .pending_for = std::chrono::duration_cast<std::chrono::microseconds>(seen.last - seen.first)};
}

bool longer(const PendingSeen& one, const PendingSeen& other) {
  return one.last - one.first > other.last - other.first;
}

/// Sleepers that hold it up first, then by how long.
bool more_in_the_way(const PendingSeen& one, const PendingSeen& other) {
  const auto holds = [](const PendingSeen& seen) {
    return seen.reason == BlockReason::on_stack || seen.reason == BlockReason::unreliable;
  };
  return holds(one) != holds(other) ? holds(one) : longer(one, other);
}

}  // namespace

TaskKind PendingSeen::kind() const {
  if (task.idle_of) {
    return TaskKind::idle;
  }
  return task.kthread() ? TaskKind::kthread : TaskKind::user;
}

PendingView PendingSeen::view(TimePoint now) const {
  const bool sleeps = !on_cpu && reason;
  return {.kind = kind(),
          .on_cpu = on_cpu,
          .cpu = task.idle_of.value_or(task.cpu),
          .held = sleeps ? reason : std::nullopt,
          .interruptible = sleeps && (task.state & kInterruptible) != 0,
          .pending_for = now - first,
          .running_for = on_cpu ? now - running_since : std::chrono::nanoseconds(0),
          .kicks = kicks};
}

Result<introspect::TransitionNow> TransitionObserver::now() const {
  auto read = introspect::read_transition(view_.kernel());
  if (!read) {
    return std::unexpected(from_introspect(read.error()));
  }
  return *std::move(read);
}

std::string TransitionObserver::follow(const introspect::TransitionNow& now, TimePoint at) {
  const bool same = now.patch == followed_.patch && now.target_state == followed_.target_state;
  if (same && !patch_.empty() && at - forbidden_read_ < kReadForbiddenEach) {
    return patch_;
  }
  const auto state = introspect::read_livepatch(view_.kernel());
  const introspect::LivePatch* patch =
      state && state->transition ? &state->patches[*state->transition] : nullptr;
  if (patch == nullptr || patch->address != now.patch) {
    return same ? patch_ : "";
  }
  if (!same) {
    merge({}, at);  // who was pending in another direction is no more
  }
  followed_ = now;
  patch_ = patch->name;
  forbidden_ = introspect::forbidden_now(*state);
  // While the kernel is at work, functions may be about to join.
  forbidden_read_ = state->busy() ? TimePoint() : at;
  return patch_;
}

Result<void> TransitionObserver::look(TimePoint at, bool first_pass, bool kernel_at_work) {
  const std::int32_t target = followed_.target_state;
  moved_ = unmoved_ = 0;
  introspect::LookOptions options;
  options.wanted = [&](const Task& task) {
    if (!task.patch_state || *task.patch_state < 0) {
      return false;
    }
    const bool moved = *task.patch_state == target;
    ++(moved ? moved_ : unmoved_);
    // Without the flag: the kernel at work is about to give it; else somebody died who was moving
    // the task.
    return !moved && (task.patch_pending || !kernel_at_work);
  };
  auto look = introspect::look_at_stacks(view_.kernel(), options);
  if (!look) {
    return std::unexpected(from_introspect(look.error()));
  }
  merge(look->tasks, at);
  if (first_pass) {
    for (PendingSeen& one : pending_) {
      one.first = one.running_since = at;
    }
  }
  return {};
}

/// Puts those seen now in the place of those seen before, of whom the gone are remembered.
void TransitionObserver::merge(const std::vector<TaskStack>& tasks, TimePoint at) {
  std::unordered_map<std::uint64_t, PendingSeen> before;
  for (PendingSeen& one : pending_) {
    const std::uint64_t address = one.task.address.value();
    before.emplace(address, std::move(one));
  }
  pending_.clear();
  for (const TaskStack& stack : tasks) {
    PendingSeen one{.task = stack.task,
                    .on_cpu = stack.activity != introspect::Activity::asleep,
                    .first = at,
                    .last = at,
                    .running_since = at};
    const auto known = before.find(one.task.address.value());
    if (known != before.end() && same_task(known->second.task, one.task)) {
      one.first = known->second.first;
      if (known->second.on_cpu) {
        one.running_since = known->second.running_since;
        one.kicks = known->second.kicks;
      }
      one.stack = std::move(known->second.stack);
      before.erase(known);
    }
    pending_.push_back(std::move(one));
  }
  for (const introspect::Blocker& blocker : introspect::find_blockers(tasks, forbidden_)) {
    pending_[blocker.task].reason = blocker.reason;
    pending_[blocker.task].why = describe(blocker, tasks[blocker.task], forbidden_);
  }
  remember(before);
}

/// Keeps the longest of those who have moved.
void TransitionObserver::remember(std::unordered_map<std::uint64_t, PendingSeen>& gone) {
  gone_count_ += gone.size();
  for (auto& [address, one] : gone) {
    gone_.push_back(std::move(one));
  }
  if (gone_.size() > 2 * kRemembered) {
    std::ranges::sort(gone_, longer);
    gone_.resize(kRemembered);
  }
}

void TransitionObserver::name_stacks(milliseconds least) {
  std::vector<PendingSeen*> chosen;
  for (PendingSeen& one : pending_) {
    if (one.last - one.first >= least) {
      chosen.push_back(&one);
    }
  }
  if (chosen.empty()) {
    return;
  }
  std::ranges::sort(chosen, [](const PendingSeen* one, const PendingSeen* other) {
    return more_in_the_way(*one, *other);
  });
  chosen.resize(std::min(chosen.size(), kShown));
  introspect::LookOptions options;
  options.wanted = [&chosen](const Task& task) {
    return std::ranges::any_of(
        chosen, [&task](const PendingSeen* one) { return same_task(one->task, task); });
  };
  auto look = introspect::look_at_stacks(view_.kernel(), options);
  if (!look) {
    return;
  }
  const introspect::Symbolizer symbols(view_.kernel(), look->modules);
  for (const TaskStack& stack : look->tasks) {
    const auto one = std::ranges::find_if(
        chosen, [&stack](const PendingSeen* seen) { return same_task(seen->task, stack.task); });
    if (one == chosen.end() || stack.trace.frames.empty()) {
      continue;
    }
    (*one)->stack = texts_of(name_frames(stack, symbols, false));
  }
}

std::string TransitionObserver::stage(introspect::GuestVirtAddr mutex_owner,
                                      const qmp::CallOptions& calls) const {
  introspect::LookOptions options;
  options.wanted = [mutex_owner](const Task& task) { return task.address == mutex_owner; };
  std::string unknown = "for something that its stack does not tell";
  auto look = introspect::look_at_stacks(view_.kernel(), options);
  Result<std::vector<introspect::VcpuRegisters>> registers;
  if (look && !look->tasks.empty() && look->tasks.front().task.on_cpu) {
    // It runs: what it does is in the registers, which the monitor stops each vCPU to read.
    registers = view_.registers(calls);
    if (registers) {
      options.vcpus = *registers;
      look = introspect::look_at_stacks(view_.kernel(), options);
    }
  }
  if (!look || look->tasks.empty()) {
    return unknown;
  }
  const introspect::Symbolizer symbols(view_.kernel(), look->modules);
  const auto frames = name_frames(look->tasks.front(), symbols, true);
  for (const auto& [function, waits] : kStages) {
    const bool found = std::ranges::any_of(frames, [prefix = function](const NamedFrame& frame) {
      return frame.function.starts_with(prefix);
    });
    if (found) {
      return std::string(waits);
    }
  }
  return unknown;
}

PendingTasks TransitionObserver::pending_table() const {
  std::vector<const PendingSeen*> order;
  order.reserve(pending_.size());
  for (const PendingSeen& one : pending_) {
    order.push_back(&one);
  }
  std::ranges::sort(order, [](const PendingSeen* one, const PendingSeen* other) {
    return more_in_the_way(*one, *other);
  });
  PendingTasks table{.count = order.size(), .first = {}};
  order.resize(std::min(order.size(), kShown));
  for (const PendingSeen* one : order) {
    table.first.push_back(described(*one));
  }
  return table;
}

PendingTasks TransitionObserver::history() const {
  std::vector<PendingSeen> all = gone_;
  all.insert(all.end(), pending_.begin(), pending_.end());
  std::ranges::sort(all, longer);
  PendingTasks table{.count = gone_count_ + pending_.size(), .first = {}};
  all.resize(std::min(all.size(), kRemembered));
  for (const PendingSeen& one : all) {
    table.first.push_back(described(one));
  }
  return table;
}

void TransitionObserver::forget() {
  followed_ = {};
  patch_.clear();
  forbidden_.clear();
  pending_.clear();
  gone_.clear();
  gone_count_ = 0;
}

}  // namespace vpatch
