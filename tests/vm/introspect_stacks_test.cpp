// SPDX-License-Identifier: Apache-2.0
// What vpatch reads from outside is what the guest's own /proc says: all tasks, and the stack of
// every one that stayed asleep, without a word of the guest.
#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/vm/introspect_support.h"
#include "tests/vm/look_fixture.h"

namespace vpatch::test {
namespace {

constexpr int kBoots = 3;
constexpr int kRoundsOfTasks = 12;
constexpr std::size_t kLeastCompared = 500;  // with a stack
constexpr std::size_t kLeastPlaces = 30;     // that is, in so many different functions

/// Tasks asleep in as many ways as a guest has to offer, a module's functions among them.
void populate(const TestVm& vm) {
  vm.guest(fmt::format("/tmp/guest-tasks start {}", kRoundsOfTasks));
  vm.guest(
      "/sbin/insmod /lib/modules/vpatch/vpatch_target.ko && "
      "cd /sys/kernel/vpatch_target && echo thread sleep >control && "
      "echo thread block >control");
  vm.guest(R"(exec </dev/null >/dev/null 2>&1
    mkfifo /tmp/fifo /tmp/alone
    for i in 1 2 3 4 5 6 7 8; do
      sleep 100000 &
      cat <>/tmp/fifo &
      cat /tmp/alone &
      sh -c 'sleep 100000; :' &
      nc -l -p $((1000 + i)) &
      sh -c 'echo sleep >/sys/kernel/vpatch_target/control' &
      sh -c 'echo block >/sys/kernel/vpatch_target/control' &
    done)");
  const auto settled = [&vm] {
    return vm.guest("cat /sys/kernel/vpatch_target/state") == "sleeping=9 blocked=9 spinning=0\n";
  };
  ASSERT_TRUE(eventually(settled));
}

/// /proc shows more of some kernel threads' names than comm holds: all of a long one, and what a
/// worker works on.
bool same_name(const std::string& guest, const boost::json::object& task) {
  const std::string name = text_of(task, "name");
  return name == guest || (task.at("kthread") == true && guest.starts_with(name));
}

bool stayed_asleep(const GuestThread& before, const GuestThread& after) {
  return before.start == after.start && before.switches == after.switches &&
         before.name == after.name && before.state == after.state && before.state != 'R';
}

struct Comparison {
  std::size_t compared = 0, equal = 0, listed = 0, empty = 0;
  std::set<std::string> innermost;  ///< in how many functions they slept
};

/// Holds vpatch's answer against what the guest said of itself before and after.
Comparison compare(const GuestThreads& before, const GuestThreads& after,
                   const boost::json::object& answer) {
  Comparison result;
  const auto seen = by_tid(answer.at("tasks").as_array());
  for (const auto& [tid, first] : before) {
    const auto second = after.find(tid);
    if (second == after.end() || second->second.start != first.start) {
      continue;
    }
    ++result.listed;
    const auto task = seen.find(tid);
    if (task == seen.end()) {
      ADD_FAILURE() << "vpatch does not list task " << tid << " (" << first.name << ")";
      continue;
    }
    EXPECT_TRUE(same_name(first.name, *task->second))
        << "task " << tid << " (" << first.name << ") is " << text_of(*task->second, "name");
    EXPECT_EQ(number_of(*task->second, "pid"), first.pid) << "task " << tid;
    if (!stayed_asleep(first, second->second)) {
      continue;
    }
    ++result.compared;
    result.empty += first.stack.empty() ? 1U : 0U;
    if (!first.stack.empty()) {
      result.innermost.insert(first.stack.front());
    }
    const auto frames = frames_of(*task->second);
    const bool same = frames == first.stack && frames == second->second.stack &&
                      text_of(*task->second, "state") == std::string(1, first.state);
    result.equal += same ? 1U : 0U;
    EXPECT_TRUE(same) << fmt::format(
        "task {} ({}), state {} in the guest, {} by vpatch\nthe guest says:\n  {}\n"
        "vpatch says ({}):\n  {}\n",
        tid, first.name, first.state, text_of(*task->second, "state"),
        fmt::join(second->second.stack, "\n  "), text_of(*task->second, "activity"),
        fmt::join(frames, "\n  "));
  }
  for (const auto& [tid, task] : seen) {
    EXPECT_TRUE(before.contains(tid) || after.contains(tid))
        << "the guest has no task " << tid << " (" << text_of(*task, "name") << ")";
  }
  return result;
}

TEST(IntrospectStacks, EqualWhatTheGuestSaysOfAllSleepersOnThreeBoots) {
  cache_folder();
  LookTest::drop_vm();  // one guest at a time
  std::set<std::uint64_t> kernel_offsets;
  for (int boot = 1; boot <= kBoots; ++boot) {
    const TestVm vm(fmt::format("vpatch-stacks-{}-{}-{}", backend(), kernel(), boot),
                    {"--memory", "768", "--append", "vpatch.guest=off"});
    deliver_guest_tasks(vm);
    populate(vm);
    const auto kernel_offset = LibraryView(vm).kernel().info().kernel_offset.value();
    kernel_offsets.insert(kernel_offset);

    const GuestThreads before = dump_threads(vm);
    const auto answer = look(vm, "stacks");
    const GuestThreads after = dump_threads(vm);

    EXPECT_EQ(answer.at("incomplete"), false) << text_of(answer, "why_incomplete");
    const Comparison result = compare(before, after, answer);
    fmt::print(
        "stacks: kernel {}, boot {}, kernel offset {:#x}: compared {}, equal {} (of {} tasks in "
        "both lists; asleep at {} places; {} with no stack); the look took {} us\n",
        kernel(), boot, kernel_offset, result.compared, result.equal, result.listed,
        result.innermost.size(), result.empty, number_of(answer, "look_us"));
    EXPECT_GE(result.compared - result.empty, kLeastCompared);
    EXPECT_GE(result.innermost.size(), kLeastPlaces);
    EXPECT_EQ(result.equal, result.compared);
    EXPECT_TRUE(std::ranges::any_of(result.innermost, [](const std::string& place) {
      return place.ends_with(" [vpatch_target]");
    }));
  }
  EXPECT_GE(kernel_offsets.size(), 2U) << "KASLR has not moved the kernel";
}

}  // namespace
}  // namespace vpatch::test
