// SPDX-License-Identifier: Apache-2.0
// Every row of the policy: what is seen, and the one action it calls for.
#include "vmm-agent/assist/policy.h"

#include <ostream>
#include <string>

#include <gtest/gtest.h>

namespace vpatch {

std::ostream& operator<<(std::ostream& out, const Action& action) {
  out << to_string(action.act);
  if (action.cpu) {
    out << " on CPU " << *action.cpu;
  }
  for (const std::uint32_t cpu : action.cpus) {
    out << " cpu " << cpu;
  }
  for (const std::size_t task : action.tasks) {
    out << " task " << task;
  }
  return out;
}

namespace {

using introspect::BlockReason;
using std::chrono::milliseconds;

constexpr milliseconds kLong{10'000};

/// A guest module that listens, and everything allowed.
Observation seen(std::vector<PendingView> pending = {}) {
  return {.pending = std::move(pending), .mailbox = true, .may_pause = true};
}

PendingView sleeper() {
  return {.kind = TaskKind::user, .interruptible = true, .pending_for = kLong};
}
PendingView held(BlockReason reason, bool interruptible, milliseconds pending_for = kLong) {
  return {.kind = TaskKind::user,
          .held = reason,
          .interruptible = interruptible,
          .pending_for = pending_for};
}
PendingView running(TaskKind kind, std::uint32_t cpu, milliseconds running_for = {},
                    std::uint32_t kicks = 0) {
  return {.kind = kind,
          .on_cpu = true,
          .cpu = cpu,
          .pending_for = kLong,
          .running_for = running_for,
          .kicks = kicks};
}

const Action kWait{};
const Action kRetry{.act = Act::retry};
const Action kSignal{.act = Act::signal};

struct Row {
  std::string name;
  Observation seen;
  Action expected;
  AssistOptions options{};
};

class Policy : public testing::TestWithParam<Row> {};

TEST_P(Policy, CallsForOneAction) {
  EXPECT_EQ(decide(GetParam().seen, GetParam().options), GetParam().expected);
}

template <class Change>
Observation with(Observation observation, Change change) {
  change(observation);
  return observation;
}

std::vector<Row> rows() {
  const AssistOptions off{.mode = AssistMode::off};
  const AssistOptions kick{.mode = AssistMode::kick};
  const AssistOptions switch_at_once{.switch_after = milliseconds(0)};
  return {
      // Nobody in the way: the kernel's own completion work, now.
      {"NobodyPending", seen(), kRetry},
      {"OnlyCleanSleepers", seen({sleeper(), sleeper()}), kRetry},
      {"NotWithinTheGap", with(seen(), [](auto& o) { o.since_retry = milliseconds(1); }), kWait},
      {"AfterTheGap", with(seen(), [](auto& o) { o.since_retry = kRetryGap; }), kRetry},
      {"AfterManyRetriesSeldom",
       with(seen(),
            [](auto& o) {
              o.retries = 24;
              o.since_retry = milliseconds(100);
            }),
       kWait},
      {"AfterManyRetriesStillOnceASecond",
       with(seen(),
            [](auto& o) {
              o.retries = 1000;
              o.since_retry = milliseconds(1000);
            }),
       kRetry},

      {"RetryThatWouldSignalABusyTask",
       with(seen({running(TaskKind::kthread, 1)}), [](auto& o) { o.next_pass_signals = true; }),
       kWait},
      {"RetryThatWouldSignalNobody",
       with(seen({sleeper()}), [](auto& o) { o.next_pass_signals = true; }), kRetry},

      // What only watches, and what keeps anyone from acting.
      {"OffOnlyWatches", seen(), kWait, off},
      {"OffNeverPauses", seen({running(TaskKind::kthread, 0, kLong, 9)}), kWait, off},
      {"KernelAtWork", with(seen(), [](auto& o) { o.kernel_at_work = true; }), kWait},
      {"KernelAtWorkAndBusyTask",
       with(seen({running(TaskKind::kthread, 0, kLong)}), [](auto& o) { o.kernel_at_work = true; }),
       kWait},
      {"NoGuestModule", with(seen(), [](auto& o) { o.mailbox = false; }), kWait},
      {"LastCommandNotTaken", with(seen(), [](auto& o) { o.outstanding = true; }), kWait},

      // Running tasks that move by themselves when they pass the kernel's exit.
      {"UserTasksRun",
       seen({running(TaskKind::user, 3), running(TaskKind::user, 1), running(TaskKind::user, 3)}),
       {.act = Act::resched, .cpus = {1, 3}, .tasks = {0, 1, 2}}},
      {"IdleCpu",
       seen({running(TaskKind::idle, 1, kLong)}),
       {.act = Act::resched, .cpus = {1}, .tasks = {0}}},
      {"RescheduledJustNow",
       with(seen({running(TaskKind::user, 3)}), [](auto& o) { o.since_resched = milliseconds(1); }),
       kWait},
      {"SleepersAreLeftToTheRetryAfterThem",
       seen({sleeper(), running(TaskKind::user, 0)}),
       {.act = Act::resched, .cpus = {0}, .tasks = {1}}},
      {"UserTaskThatStaysInTheKernel",
       seen({running(TaskKind::user, 2, milliseconds(10), 3)}),
       {.act = Act::retry, .cpu = 2, .tasks = {0}}},

      // A kernel thread that runs gives way to a retry on its own CPU.
      {"BusyKthread",
       seen({running(TaskKind::kthread, 1)}),
       {.act = Act::retry, .cpu = 1, .tasks = {0}}},
      {"TwoBusyKthreadsTakeTurns",
       seen({running(TaskKind::kthread, 1, {}, 1), running(TaskKind::kthread, 0)}),
       {.act = Act::retry, .cpu = 0, .tasks = {1}}},
      {"BusyKthreadThatDoesNotGiveWay",
       with(seen({running(TaskKind::kthread, 1, milliseconds(19), 3)}),
            [](auto& o) { o.since_retry = milliseconds(5); }),
       kWait},
      {"BusyKthreadTooLong",
       seen({running(TaskKind::kthread, 1, milliseconds(20), 3)}),
       {.act = Act::pause_and_switch, .tasks = {0}}},
      {"BusyKthreadTooLongAlsoWithoutTheModule",
       with(seen({running(TaskKind::kthread, 1, milliseconds(20))}),
            [](auto& o) { o.mailbox = false; }),
       {.act = Act::pause_and_switch, .tasks = {0}}},
      {"UserTaskInTheKernelTooLong",
       seen({sleeper(), running(TaskKind::user, 1, milliseconds(20), 3)}),
       {.act = Act::pause_and_switch, .tasks = {1}}},
      {"UserTaskIsKickedBeforeItIsSwitched",
       seen({running(TaskKind::user, 1, kLong, 2)}),
       {.act = Act::resched, .cpus = {1}, .tasks = {0}}},
      {"UserTaskWithoutTheModuleIsLeftToTheKernel",
       with(seen({running(TaskKind::user, 1, kLong)}), [](auto& o) { o.mailbox = false; }), kWait},
      {"KickNeverPauses",
       seen({running(TaskKind::kthread, 1, kLong, 9)}),
       {.act = Act::retry, .cpu = 1, .tasks = {0}},
       kick},
      {"PauseNotAllowed",
       with(seen({running(TaskKind::kthread, 1, kLong, 9)}), [](auto& o) { o.may_pause = false; }),
       {.act = Act::retry, .cpu = 1, .tasks = {0}}},
      {"IdleTasksAreNeverSwitched",
       seen({running(TaskKind::idle, 1, kLong)}),
       {.act = Act::resched, .cpus = {1}, .tasks = {0}}},
      {"SwitchAtOnce",
       seen({running(TaskKind::kthread, 1)}),
       {.act = Act::pause_and_switch, .tasks = {0}},
       switch_at_once},
      {"AfterAPauseInVainTheKernelFirst",
       with(seen({running(TaskKind::kthread, 1, kLong)}),
            [](auto& o) {
              o.pauses = 1;
              o.since_pause = milliseconds(39);
            }),
       {.act = Act::retry, .cpu = 1, .tasks = {0}}},
      {"AfterAPauseInVainAgainLater",
       with(seen({running(TaskKind::kthread, 1, kLong)}),
            [](auto& o) {
              o.pauses = 1;
              o.since_pause = milliseconds(40);
            }),
       {.act = Act::pause_and_switch, .tasks = {0}}},

      // Sleepers inside a function being changed.
      {"HeldNotYetDue", seen({held(BlockReason::on_stack, true, milliseconds(49))}), kWait},
      {"HeldDue", seen({held(BlockReason::on_stack, true, milliseconds(50))}), kSignal},
      {"HeldDueAsAsked",
       seen({held(BlockReason::on_stack, true, milliseconds(20))}),
       kSignal,
       {.signal_after = milliseconds(20)}},
      {"HeldUninterruptibly", seen({held(BlockReason::on_stack, false)}), kWait},
      {"HeldUnreliable", seen({held(BlockReason::unreliable, false)}), kWait},
      {"HeldAndBusyKthread",
       with(seen({held(BlockReason::on_stack, true), running(TaskKind::kthread, 0)}),
            [](auto& o) { o.may_pause = false; }),
       kSignal},
      {"SignalledNotLongAgo",
       with(seen({held(BlockReason::on_stack, true)}),
            [](auto& o) {
              o.signals = 1;
              o.since_signal = milliseconds(99);
              o.since_retry = milliseconds(99);
            }),
       kWait},
      {"SignalledLongAgo",
       with(seen({held(BlockReason::on_stack, true)}),
            [](auto& o) {
              o.signals = 1;
              o.since_signal = milliseconds(100);
              o.since_retry = milliseconds(100);
            }),
       kSignal},
      {"SignalIsARetryToo",
       with(seen({held(BlockReason::on_stack, true)}),
            [](auto& o) { o.since_retry = milliseconds(1); }),
       kWait},
  };
}

INSTANTIATE_TEST_SUITE_P(Rows, Policy, testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

TEST(PolicyWords, AreStable) {
  EXPECT_EQ(to_string(Act::wait), "wait");
  EXPECT_EQ(to_string(Act::retry), "retry");
  EXPECT_EQ(to_string(Act::resched), "resched");
  EXPECT_EQ(to_string(Act::signal), "signal");
  EXPECT_EQ(to_string(Act::pause_and_switch), "pause-and-switch");
}

}  // namespace
}  // namespace vpatch
