// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/stack_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/stacks/fake_stack.h"

namespace vpatch::introspect {
namespace {

using testing::addresses;
using testing::Addresses;
using testing::in;
using ::testing::IsEmpty;

constexpr std::uint64_t kStackSize = 0x4000;
constexpr std::uint64_t kPid = 8, kOnCpu = 16, kStack = 24, kSavedSp = 32, kNvcsw = 40,
                        kNivcsw = 48, kStartTime = 56, kTasks = 64, kThreadNode = 80, kComm = 96;

constexpr std::uint64_t task_at(std::uint32_t tid) {
  return 0xffff888000000000 + std::uint64_t{tid} * 0x1000;
}
constexpr std::uint64_t stack_of(std::uint32_t tid) {
  return 0xffffc90000000000 + std::uint64_t{tid} * 0x10000;
}

/// Two tasks, 1 and 2, that sleep in function 0, called by function 1. What reads touch is counted.
class StackWalkTest : public ::testing::Test {
 protected:
  StackWalkTest() : moving(memory) {
    layout.stack_size = kStackSize;
    layout.pid = kPid;
    layout.on_cpu = kOnCpu;
    layout.stack = kStack;
    layout.saved_sp = kSavedSp;
    layout.nvcsw = kNvcsw;
    layout.nivcsw = kNivcsw;
    layout.start_time = kStartTime;
    layout.tasks = kTasks;
    layout.thread_node = kThreadNode;
    layout.comm = kComm;
    layout.comm_size = 16;
    testing::OrcBuilder table;
    table.add(testing::function(0), testing::call_frame(0x10));
    table.add(testing::function(1), {.type = testing::kEnd});
    table.add(testing::function(2), {.type = testing::kEnd});
    const auto text = testing::range(testing::kText, testing::kTextSize);
    orc.emplace(memory, testing::new_format(),
                std::vector{table.write(memory, text, testing::kText + 0x1000000,
                                        testing::kText + 0x2000000)});
    for (const std::uint32_t tid : {1U, 2U}) {
      look.tasks.push_back({sleeper(tid), Activity::running, {}, {}});
    }
    moving.before_read = [this](GuestVirtAddr address) {
      for (const std::uint32_t tid : {1U, 2U}) {
        stack_reads += testing::range(stack_of(tid), kStackSize).holds(address, 1) ? 1 : 0;
        task_reads += testing::range(task_at(tid), 0x1000).holds(address, 1) ? 1 : 0;
      }
      if (meanwhile) {
        meanwhile();
      }
    };
  }

  Task sleeper(std::uint32_t tid) {
    Task task;
    task.address = GuestVirtAddr(task_at(tid));
    task.tid = tid;
    task.stack = GuestVirtAddr(stack_of(tid));
    task.saved_sp = GuestVirtAddr(stack_of(tid) + kStackSize - 0x100);
    task.switches = 7;
    task.start_ns = 1000 + tid;
    memory.write(task.address, std::vector<std::byte>(0x100));
    memory.put(GuestVirtAddr(task_at(tid) + kPid), tid);
    memory.put(GuestVirtAddr(task_at(tid) + kStack), task.stack);
    memory.put(GuestVirtAddr(task_at(tid) + kSavedSp), task.saved_sp);
    memory.put(GuestVirtAddr(task_at(tid) + kNvcsw), std::uint64_t{3});
    memory.put(GuestVirtAddr(task_at(tid) + kNivcsw), std::uint64_t{4});
    memory.put(GuestVirtAddr(task_at(tid) + kStartTime), task.start_ns);
    memory.write(task.saved_sp, std::vector<std::byte>(0x100));
    memory.put(GuestVirtAddr(task.saved_sp.value() + unwind.frame_ip), in(0));
    put_caller(tid, in(1));
    return task;
  }
  /// The return address above function 0.
  void put_caller(std::uint32_t tid, std::uint64_t address) {
    memory.put(GuestVirtAddr(stack_of(tid) + kStackSize - 0x100 + unwind.frame_size + 8), address);
  }

  void walk(Look& into, bool paused = false, const Look* before = nullptr) {
    LookOptions options;
    options.paused = paused;
    options.before = before;
    stack_reads = task_reads = 0;
    walk_stacks({&moving, &layout, &*orc, &unwind}, options, into);
  }

  testing::SparseVirtualMemory memory;
  testing::MovingMemory moving;
  TaskLayout layout;
  UnwindLayout unwind = UnwindLayout::probe(testing::types_of_6_12()).value();
  std::optional<OrcTables> orc;
  Look look;  // the tasks as they are listed, not yet walked
  std::function<void()> meanwhile;
  int stack_reads = 0, task_reads = 0;
};

TEST_F(StackWalkTest, WalksSleepersAndMakesSureTheyStillSleep) {
  walk(look);
  for (const TaskStack& one : look.tasks) {
    EXPECT_EQ(one.activity, Activity::asleep);
    EXPECT_TRUE(one.trace.reliable());
    EXPECT_EQ(addresses(one.trace), (Addresses{in(0), in(1)}));
  }
  EXPECT_EQ(stack_reads, 2);
  EXPECT_EQ(task_reads, 2);
}

TEST_F(StackWalkTest, BelievesNoStackOfATaskThatRanMeanwhile) {
  meanwhile = [this] { memory.put(GuestVirtAddr(task_at(2) + kNvcsw), std::uint64_t{4}); };
  walk(look);
  EXPECT_EQ(look.tasks[0].activity, Activity::asleep);
  EXPECT_EQ(look.tasks[1].activity, Activity::running);
  EXPECT_EQ(look.tasks[1].trace.unreliable, Unreliable::running);
  EXPECT_THAT(look.tasks[1].trace.frames, IsEmpty());
}

TEST_F(StackWalkTest, ReadsNoTaskAgainInAPause) {
  walk(look, true);
  for (const TaskStack& one : look.tasks) {
    EXPECT_EQ(one.activity, Activity::asleep);
    EXPECT_TRUE(one.trace.reliable());
    EXPECT_EQ(addresses(one.trace), (Addresses{in(0), in(1)}));
  }
  EXPECT_EQ(stack_reads, 2);
  EXPECT_EQ(task_reads, 0);
}

TEST_F(StackWalkTest, TakesTheTraceOfATaskThatHasNotRunFromTheLookBefore) {
  Look now = look;
  walk(look);
  put_caller(1, in(2));  // cannot be, and shows where the trace came from
  for (const bool paused : {false, true}) {
    Look again = now;
    walk(again, paused, &look);
    EXPECT_EQ(again.tasks[0].activity, Activity::asleep);
    EXPECT_TRUE(again.tasks[0].trace.reliable());
    EXPECT_EQ(addresses(again.tasks[0].trace), (Addresses{in(0), in(1)}));
    EXPECT_EQ(stack_reads, 0);
    EXPECT_EQ(task_reads, 0);
  }
}

struct Change {
  const char* name;
  void (*make)(Task&);
};

class ChangedTask : public StackWalkTest, public ::testing::WithParamInterface<Change> {};

TEST_P(ChangedTask, IsWalkedAnew) {
  Look now = look;
  walk(look);
  GetParam().make(look.tasks[0].task);  // the look before saw it otherwise
  put_caller(1, in(2));
  walk(now, true, &look);
  EXPECT_EQ(now.tasks[0].activity, Activity::asleep);
  EXPECT_EQ(addresses(now.tasks[0].trace), (Addresses{in(0), in(2)}));
  EXPECT_EQ(addresses(now.tasks[1].trace), (Addresses{in(0), in(1)}));
  EXPECT_EQ(stack_reads, 1);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ChangedTask,
    ::testing::Values(Change{"address", [](Task& task) { task.address = GuestVirtAddr(1); }},
                      Change{"tid", [](Task& task) { ++task.tid; }},
                      Change{"start", [](Task& task) { ++task.start_ns; }},
                      Change{"switches", [](Task& task) { --task.switches; }},
                      Change{"sp", [](Task& task) { task.saved_sp = GuestVirtAddr(8); }},
                      Change{"stack", [](Task& task) { task.stack = GuestVirtAddr(8); }}),
    [](const auto& one) { return one.param.name; });

TEST_F(StackWalkTest, WalksAnewWhatTheLookBeforeDidNotSeeAsleep) {
  Look now = look;
  walk(look);
  look.tasks[0].activity = Activity::running;
  put_caller(1, in(2));
  walk(now, true, &look);
  EXPECT_EQ(addresses(now.tasks[0].trace), (Addresses{in(0), in(2)}));
}

TEST_F(StackWalkTest, TakesNoTraceFromBeforeForATaskThatRuns) {
  Look now = look;
  walk(look);
  now.tasks[0].task.on_cpu = true;
  walk(now, true, &look);
  EXPECT_EQ(now.tasks[0].activity, Activity::running);
  EXPECT_FALSE(now.tasks[0].trace.reliable());
  EXPECT_EQ(now.tasks[1].activity, Activity::asleep);
}

}  // namespace
}  // namespace vpatch::introspect
