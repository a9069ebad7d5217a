// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/tasks.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using testing::FakeSymbols;
using testing::FakeTypes;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MovingMemory;
using testing::put_list;
using ::testing::SizeIs;
using testing::SparseVirtualMemory;

constexpr std::uint64_t kInit = 0x10000;
constexpr std::uint64_t kSignal = 0x800000;  // + 0x1000 * process

TaskLayout make_layout() {
  TaskLayout layout;
  layout.init_task = GuestVirtAddr(kInit);
  layout.stack_size = 16384;
  layout.thread_flags = 0;
  layout.cpu = 8;
  layout.state = 16;
  layout.exit_state = 20;
  layout.flags = 24;
  layout.on_cpu = 28;
  layout.stack = 32;
  layout.tasks = 40;
  layout.thread_node = 56;
  layout.pid = 72;
  layout.tgid = 76;
  layout.signal = 80;
  layout.comm = 88;
  layout.comm_size = 16;
  layout.nvcsw = 104;
  layout.nivcsw = 112;
  layout.start_time = 120;
  layout.patch_state = 6000;  // far away, as in the kernel
  layout.saved_sp = 6008;
  layout.thread_head = 16;
  return layout;
}

/// A guest whose task_structs can be written one by one.
class TasksTest : public ::testing::Test {
 protected:
  std::uint64_t task_at(std::uint32_t tid) const { return 0x100000 + std::uint64_t{tid} * 0x2000; }
  std::uint64_t signal_of(std::uint32_t pid) const { return kSignal + std::uint64_t{pid} * 0x100; }

  void put_task(std::uint64_t at, std::uint32_t tid, std::uint32_t pid, std::string_view name) {
    for (std::uint64_t page = 0; page < 0x2000; page += 0x1000) {
      memory.put(GuestVirtAddr(at + page), std::uint64_t{0});
    }
    memory.put(GuestVirtAddr(at + layout.pid), tid);
    memory.put(GuestVirtAddr(at + layout.tgid), pid);
    memory.put(GuestVirtAddr(at + layout.signal), signal_of(pid));
    memory.put_text(GuestVirtAddr(at + layout.comm), name);
    memory.put(GuestVirtAddr(at + layout.start_time), std::uint64_t{tid} * 1000);
  }

  /// Processes in list order, each with its threads, the leader first.
  void put_processes(const std::vector<std::vector<std::uint32_t>>& processes) {
    put_task(kInit, 0, 0, "swapper/0");
    std::vector<std::uint64_t> nodes;
    for (const auto& threads : processes) {
      std::vector<std::uint64_t> thread_nodes;
      for (const std::uint32_t tid : threads) {
        put_task(task_at(tid), tid, threads[0], fmt::format("task{}", tid));
        thread_nodes.push_back(task_at(tid) + layout.thread_node);
      }
      put_list(memory, signal_of(threads[0]) + layout.thread_head, thread_nodes);
      nodes.push_back(task_at(threads[0]) + layout.tasks);
    }
    put_list(memory, kInit + layout.tasks, nodes);
  }

  static std::vector<std::uint32_t> tids(const TaskList& list) {
    std::vector<std::uint32_t> all;
    for (const Task& task : list.tasks) {
      all.push_back(task.tid);
    }
    return all;
  }

  SparseVirtualMemory memory;
  TaskLayout layout = make_layout();
};

TEST_F(TasksTest, ListsProcessesInOrderEachWithItsThreads) {
  put_processes({{1}, {7, 8, 9}, {5}});
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value()) << list.error().what;
  EXPECT_THAT(tids(*list), ElementsAre(1, 7, 8, 9, 5));
  EXPECT_FALSE(list->incomplete);
}

TEST_F(TasksTest, TellsEveryFieldOfATask) {
  put_processes({{7}});
  const std::uint64_t at = task_at(7);
  memory.put(GuestVirtAddr(at + layout.state), std::uint32_t{0x2001});
  memory.put(GuestVirtAddr(at + layout.exit_state), std::uint32_t{0x20});
  memory.put(GuestVirtAddr(at + layout.flags), std::uint32_t{0x00200040});
  memory.put(GuestVirtAddr(at + layout.thread_flags), std::uint64_t{1} << 13U);
  memory.put(GuestVirtAddr(at + layout.on_cpu), std::uint32_t{1});
  memory.put(GuestVirtAddr(at + layout.cpu), std::uint32_t{3});
  memory.put(GuestVirtAddr(at + layout.stack), std::uint64_t{0xaaaa0000});
  memory.put(GuestVirtAddr(at + layout.saved_sp), std::uint64_t{0xaaaa3e00});
  memory.put(GuestVirtAddr(at + layout.nvcsw), std::uint64_t{40});
  memory.put(GuestVirtAddr(at + layout.nivcsw), std::uint64_t{2});
  memory.put(GuestVirtAddr(at + *layout.patch_state), std::int32_t{1});
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  const Task& task = list->tasks.at(0);
  EXPECT_EQ(task.address, GuestVirtAddr(at));
  EXPECT_EQ(task.pid, 7U);
  EXPECT_EQ(task.name, "task7");
  EXPECT_EQ(task.state, 0x2001U);
  EXPECT_EQ(task.exit_state, 0x20U);
  EXPECT_TRUE(task.kthread());
  EXPECT_TRUE(task.patch_pending);
  EXPECT_TRUE(task.on_cpu);
  EXPECT_EQ(task.cpu, 3U);
  EXPECT_EQ(task.stack, GuestVirtAddr(0xaaaa0000));
  EXPECT_EQ(task.saved_sp, GuestVirtAddr(0xaaaa3e00));
  EXPECT_EQ(task.switches, 42U);
  EXPECT_EQ(task.start_ns, 7000U);
  EXPECT_EQ(task.patch_state, 1);
}

TEST_F(TasksTest, ListsIdleTasksLastWithTheirCpu) {
  put_processes({{1}});
  put_task(0x700000, 0, 0, "swapper/3");
  Cpu never_started;
  never_started.number = 2;
  Cpu cpu;
  cpu.number = 3;
  cpu.idle = GuestVirtAddr(0x700000);
  const auto list = read_tasks(memory, layout, std::vector{never_started, cpu});
  ASSERT_TRUE(list.has_value());
  ASSERT_THAT(list->tasks, SizeIs(2));
  EXPECT_EQ(list->tasks[1].name, "swapper/3");
  EXPECT_EQ(list->tasks[1].idle_of, 3U);
  EXPECT_FALSE(list->incomplete);
}

TEST_F(TasksTest, IsIncompleteWhenAnIdleTaskIsNone) {
  put_processes({{1}});
  Cpu cpu;
  cpu.idle = GuestVirtAddr(task_at(1));
  const auto list = read_tasks(memory, layout, std::vector{cpu});
  ASSERT_TRUE(list.has_value());
  EXPECT_TRUE(list->incomplete);
  EXPECT_THAT(tids(*list), ElementsAre(1));
}

TEST_F(TasksTest, FindsThreadsListedBeforeTheirLeader) {
  put_processes({{7, 8, 9}});
  const std::uint64_t node = layout.thread_node;
  put_list(memory, signal_of(7) + layout.thread_head,
           {task_at(8) + node, task_at(7) + node, task_at(9) + node});
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(tids(*list), ::testing::UnorderedElementsAre(7, 8, 9));
  EXPECT_FALSE(list->incomplete) << list->why;
}

TEST_F(TasksTest, EndsACycleOfProcesses) {
  put_processes({{1}, {2}, {3}});
  memory.put(GuestVirtAddr(task_at(3) + layout.tasks), task_at(2) + layout.tasks);
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(tids(*list), ElementsAre(1, 2, 3));
  EXPECT_TRUE(list->incomplete);
  EXPECT_THAT(list->why, HasSubstr("twice"));
}

TEST_F(TasksTest, EndsACycleOfThreads) {
  put_processes({{1, 2, 3}, {4}});
  memory.put(GuestVirtAddr(task_at(3) + layout.thread_node), task_at(2) + layout.thread_node);
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(tids(*list), ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(list->incomplete);
}

TEST_F(TasksTest, IsIncompleteWhenAThreadBelongsToAnotherProcess) {
  put_processes({{1, 2}, {3}});
  memory.put(GuestVirtAddr(task_at(2) + layout.signal), signal_of(3));
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_TRUE(list->incomplete);
}

TEST_F(TasksTest, FailsAsTornWhenNotEvenTheFirstCanBeRead) {
  put_processes({{1}});
  memory.fail_at(GuestVirtAddr(task_at(1)));
  const auto list = read_tasks(memory, layout, {});
  ASSERT_FALSE(list.has_value());
  EXPECT_EQ(list.error().code, Errc::torn);
}

TEST_F(TasksTest, WalksAgainWhenTheListMovedMeanwhile) {
  put_processes({{1}, {2}, {3}});
  MovingMemory moving(memory);
  bool moved = false;
  moving.before_read = [&](GuestVirtAddr address) {
    if (!moved && address == GuestVirtAddr(task_at(2))) {
      // Task 2 leaves the list just before it is read.
      moved = true;
      put_list(memory, kInit + layout.tasks,
               {task_at(1) + layout.tasks, task_at(3) + layout.tasks});
      memory.put(GuestVirtAddr(task_at(2) + layout.tasks + 8), std::uint64_t{0xdead000000000122});
    }
  };
  const auto list = read_tasks(moving, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(tids(*list), ElementsAre(1, 3));
  EXPECT_FALSE(list->incomplete);
}

TEST_F(TasksTest, FollowsTheListAsItIsAfterLongThreadWalks) {
  put_processes({{1, 10, 11}, {2}, {3}});
  MovingMemory moving(memory);
  moving.before_read = [&](GuestVirtAddr address) {
    if (address == GuestVirtAddr(task_at(11))) {
      put_list(memory, kInit + layout.tasks,
               {task_at(1) + layout.tasks, task_at(3) + layout.tasks});
    }
  };
  const auto list = read_tasks(moving, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(tids(*list), ElementsAre(1, 10, 11, 3));
  EXPECT_FALSE(list->incomplete);
}

TEST_F(TasksTest, CostsTwoReadsATask) {
  std::vector<std::vector<std::uint32_t>> processes;
  for (std::uint32_t tid = 1; tid <= 500; ++tid) {
    processes.push_back({tid});
  }
  put_processes(processes);
  memory.reads = 0;
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  EXPECT_THAT(list->tasks, SizeIs(500));
  EXPECT_LE(memory.reads, 2 * 500 + 1);
}

TEST_F(TasksTest, HasNothingForTasksThatAreGoneOrReplaced) {
  put_processes({{1}, {2}, {3}, {4}});
  const auto list = read_tasks(memory, layout, {});
  ASSERT_TRUE(list.has_value());
  memory.fail_at(GuestVirtAddr(task_at(1)));
  memory.put(GuestVirtAddr(task_at(2) + layout.pid), std::uint32_t{20});
  memory.put(GuestVirtAddr(task_at(3) + layout.start_time), std::uint64_t{1});
  const auto again = read_again(memory, layout, list->tasks);
  EXPECT_FALSE(again[0]);
  EXPECT_FALSE(again[1]);
  EXPECT_FALSE(again[2]);
  EXPECT_TRUE(again[3]);
}

struct StateCase {
  std::uint32_t state, exit_state;
  char letter;
};

class TaskState : public ::testing::TestWithParam<StateCase> {};

TEST_P(TaskState, HasTheLetterThatPsShows) {
  Task task;
  task.state = GetParam().state;
  task.exit_state = GetParam().exit_state;
  EXPECT_EQ(task.state_letter(), GetParam().letter);
}

INSTANTIATE_TEST_SUITE_P(All, TaskState,
                         ::testing::Values(StateCase{0, 0, 'R'}, StateCase{0x1, 0, 'S'},
                                           StateCase{0x2001, 0, 'S'}, StateCase{0x2, 0, 'D'},
                                           StateCase{0x102, 0, 'D'}, StateCase{0x402, 0, 'I'},
                                           StateCase{0x104, 0, 'T'}, StateCase{0x8, 0, 't'},
                                           StateCase{0x80, 0x10, 'X'}, StateCase{0x80, 0x20, 'Z'},
                                           StateCase{0x40, 0, 'P'}, StateCase{0x1000, 0, 'D'},
                                           StateCase{0x8000, 0, 'D'},
                                           StateCase{0xffffffff, 0xffffffff, 'D'}));

class TaskProbe : public ::testing::Test {
 protected:
  TaskProbe() {
    symbols.addresses["init_task"] = kInit;
    types.put("signal_struct.thread_head", 16, 16);
    std::uint64_t at = 0;
    for (const auto* member :
         {"tasks", "thread_node", "signal", "pid", "tgid", "comm", "__state", "exit_state", "flags",
          "thread_info.flags", "on_cpu", "thread_info.cpu", "stack", "thread.sp", "nvcsw", "nivcsw",
          "start_time"}) {
      types.put(fmt::format("task_struct.{}", member), at += 16, 16);
    }
  }

  FakeTypes types;
  FakeSymbols symbols;
};

TEST_F(TaskProbe, TakesTheStackSizeFromTheFirstTasksStack) {
  symbols.addresses["__start_init_stack"] = 0x1000000;
  symbols.addresses["__end_init_stack"] = 0x1008000;
  const auto layout = TaskLayout::probe(types, symbols);
  ASSERT_TRUE(layout.has_value()) << layout.error().what;
  EXPECT_EQ(layout->stack_size, 0x8000U);
}

}  // namespace
}  // namespace vpatch::introspect
