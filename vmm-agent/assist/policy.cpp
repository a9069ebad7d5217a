// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/policy.h"

#include <algorithm>

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// Between two interruptions of CPUs: a timer tick of the guest does the same.
constexpr milliseconds kReschedGap{4};
/// So many kicks go to a task that runs; then retries come at kSlowRetry, and later still slower.
constexpr std::uint32_t kKicks = 3;
constexpr milliseconds kSlowRetry{20};
/// After so many retries in a row have not ended it, the guest is asked less and less often.
constexpr std::uint32_t kEagerRetries = 20;
constexpr milliseconds kLastRetry{1000};
constexpr std::uint32_t kMaxDoublings = 6;

/// `first`, twice as long with each of `times`.
milliseconds backed_off(milliseconds first, std::uint32_t times) {
  return first * (1U << std::min(times, kMaxDoublings));
}

class Decision {
 public:
  Decision(const Observation& seen, const AssistOptions& options)
      : seen_(&seen), options_(&options) {
    for (std::size_t index = 0; index < seen.pending.size(); ++index) {
      const PendingView& task = seen.pending[index];
      if (task.on_cpu) {
        running_.push_back(index);
      } else if (task.held) {
        held_.push_back(index);
      }
    }
  }

  Action make() const {
    if (options_->mode == AssistMode::off || seen_->kernel_at_work) {
      return {};
    }
    if (const auto tasks = to_switch(); !tasks.empty()) {
      return {.act = Act::pause_and_switch, .tasks = tasks};
    }
    if (!seen_->mailbox || seen_->outstanding) {
      return {};
    }
    if (may_signal()) {
      return {.act = Act::signal};
    }
    if (!running_.empty()) {
      return kick();
    }
    return held_.empty() && may_retry() ? Action{.act = Act::retry} : Action{};
  }

 private:
  const PendingView& task(std::size_t index) const { return seen_->pending[index]; }

  /// A pass that leaves somebody behind and signals him is the kernel's own affair: a retry must
  /// not bring it about before its time.
  bool may_retry() const {
    if (seen_->next_pass_signals && !(running_.empty() && held_.empty())) {
      return false;
    }
    const milliseconds gap =
        seen_->retries < kEagerRetries
            ? kRetryGap
            : std::min(backed_off(kSlowRetry, seen_->retries - kEagerRetries), kLastRetry);
    return seen_->since_retry >= gap;
  }

  /// Those who run in the kernel and have been left to it for long enough. An idle CPU wakes up
  /// when it is told to. A user task leaves the kernel then: only kicks in vain tell that it does
  /// not.
  std::vector<std::size_t> to_switch() const {
    std::vector<std::size_t> tasks;
    const bool allowed = options_->mode == AssistMode::full && seen_->may_pause &&
                         seen_->since_pause >= backed_off(kSlowRetry, seen_->pauses);
    if (allowed) {
      std::ranges::copy_if(running_, std::back_inserter(tasks), [&](std::size_t index) {
        const bool kicked = task(index).kicks >= kKicks || options_->switch_after.count() == 0;
        const bool stays =
            task(index).kind == TaskKind::kthread || (task(index).kind == TaskKind::user && kicked);
        return stays && task(index).running_for >= options_->switch_after;
      });
    }
    return tasks;
  }

  /// A user task that runs moves itself when it leaves the kernel, an idle one when it wakes up. A
  /// kernel thread does neither: the retry itself has to take its CPU.
  Action kick() const {
    Action resched{.act = Act::resched};
    for (const std::size_t index : running_) {
      if (task(index).kind != TaskKind::kthread && task(index).kicks < kKicks) {
        resched.tasks.push_back(index);
        resched.cpus.push_back(task(index).cpu);
      }
    }
    if (!resched.tasks.empty() && seen_->since_resched >= kReschedGap) {
      std::ranges::sort(resched.cpus);
      const auto same = std::ranges::unique(resched.cpus);
      resched.cpus.erase(same.begin(), same.end());
      return resched;
    }
    return retry_where_it_runs();
  }

  Action retry_where_it_runs() const {
    const auto order = [&](std::size_t index) { return task(index).kicks; };
    std::vector<std::size_t> busy;
    std::ranges::copy_if(running_, std::back_inserter(busy), [&](std::size_t index) {
      return task(index).kind == TaskKind::kthread || task(index).kicks >= kKicks;
    });
    if (busy.empty()) {
      return {};
    }
    const std::size_t chosen = std::ranges::min(busy, {}, order);
    const bool eager = task(chosen).kicks < kKicks;
    if (!may_retry() || (!eager && seen_->since_retry < kSlowRetry)) {
      return {};
    }
    return {.act = Act::retry, .cpu = task(chosen).cpu, .tasks = {chosen}};
  }

  bool may_signal() const {
    const bool due = std::ranges::any_of(held_, [&](std::size_t index) {
      return task(index).interruptible && task(index).pending_for >= options_->signal_after;
    });
    const milliseconds gap =
        std::min(backed_off(std::max(options_->signal_after, kSlowRetry), seen_->signals),
                 milliseconds(5000));
    return due && seen_->since_retry >= kRetryGap && seen_->since_signal >= gap;
  }

  const Observation* seen_;
  const AssistOptions* options_;
  std::vector<std::size_t> running_;
  std::vector<std::size_t> held_;
};

}  // namespace

std::string_view to_string(Act act) {
  switch (act) {
    case Act::retry:
      return "retry";
    case Act::resched:
      return "resched";
    case Act::signal:
      return "signal";
    case Act::pause_and_switch:
      return "pause-and-switch";
    case Act::wait:
      break;
  }
  return "wait";
}

Action decide(const Observation& seen, const AssistOptions& options) {
  return Decision(seen, options).make();
}

}  // namespace vpatch
