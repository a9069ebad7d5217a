// SPDX-License-Identifier: Apache-2.0
// The kernel's CPUs, task lists, and health.
#include "introspect/kernel/cpus.h"
#include "introspect/kernel/health.h"
#include "introspect/kernel/tasks.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/kernel/fake_kernel_memory.h"

namespace vpatch::fuzz {
namespace {

using introspect::testing::SparseVirtualMemory;

constexpr std::uint64_t kBase = 0xffff'8880'0000'0000;
// Per-CPU offsets and masks, in full size; tasks and per-CPU areas.
constexpr std::array<Window, 2> kWindows = {{{kBase, 1024}, {kBase + 0x10000, 32768}}};
constexpr std::uint64_t kHeap = kWindows[1].base;
constexpr std::uint64_t kInit = kHeap, kSignals = kHeap + 0x2000, kArea = kHeap + 0x3000;

introspect::CpuLayout cpu_layout() {
  introspect::CpuLayout layout;
  layout.per_cpu_offset = GuestVirtAddr(kBase);
  layout.nr_cpu_ids = GuestVirtAddr(kBase + 960);
  layout.online_mask = GuestVirtAddr(kBase + 968);
  layout.possible_mask = GuestVirtAddr(kBase + 976);
  layout.runqueues = 0x100;
  layout.rq_curr = 8;
  layout.rq_idle = 16;
  layout.irq_stack_ptr = 0x20;
  layout.irq_stack_size = 0x4000;
  layout.exception_stacks_ptr = 0x28;
  layout.exception_stacks = {{0x1000, 0x2000}, {0x4000, 0x2000}};
  layout.entry_stack_below = 0x3000;
  layout.entry_stack_size = 0x1000;
  return layout;
}

introspect::TaskLayout task_layout() {
  introspect::TaskLayout layout;
  layout.init_task = GuestVirtAddr(kInit);
  layout.stack_size = 16384;
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
  layout.patch_state = 400;
  layout.saved_sp = 408;
  layout.thread_head = 16;
  return layout;
}

void fuzz_one(std::span<const std::byte> bytes) {
  static const auto of_cpus = cpu_layout();
  static const auto of_tasks = task_layout();
  static const introspect::HealthLayout of_health{.tainted_mask = GuestVirtAddr(kBase),
                                                  .timekeeper = GuestVirtAddr(kBase + 8),
                                                  .ktime_sec = 0,
                                                  .xtime_sec = 8,
                                                  .offs_boot = 16,
                                                  .panic_cpu = GuestVirtAddr(kBase + 40)};
  Input input(bytes);
  const FuzzMemory memory(kWindows, input);
  const auto cpus = introspect::read_cpus(memory, of_cpus);
  const auto list = introspect::read_tasks(
      memory, of_tasks, cpus ? std::span(*cpus) : std::span<const introspect::Cpu>());
  if (list) {
    for (const introspect::Task& task : list->tasks) {
      static_cast<void>(task.state_letter());
    }
    const auto again = introspect::read_again(memory, of_tasks, list->tasks);
    if (again.size() != list->tasks.size()) {
      std::abort();
    }
  }
  static_cast<void>(introspect::read_health(memory, of_health));
}

}  // namespace

std::vector<Bytes> seeds() {
  const auto layout = task_layout();
  SparseVirtualMemory memory;
  const auto put = [&memory](std::uint64_t at, auto value) {
    memory.put(GuestVirtAddr(at), value);
  };
  const auto task_at = [](std::uint64_t number) { return kHeap + number * 0x200; };
  const auto put_task = [&](std::uint64_t at, std::uint32_t tid, std::uint32_t pid) {
    put(at + layout.pid, tid);
    put(at + layout.tgid, pid);
    put(at + layout.signal, kSignals + std::uint64_t{pid} * 0x40);
    put(at + layout.stack, kHeap + 0x4000);
    put(at + layout.saved_sp, kHeap + 0x7f00);
    memory.put_text(GuestVirtAddr(at + layout.comm), "kworker/0:1");
  };
  put_task(kInit, 0, 0);
  put_task(task_at(10), 0, 0);  // the idle task of CPU 1
  for (const std::uint32_t tid : {1U, 2U, 3U, 4U}) {
    put_task(task_at(tid), tid, tid == 4 ? 3 : tid);
  }
  using introspect::testing::put_list;
  put_list(memory, kInit + layout.tasks,
           {task_at(1) + layout.tasks, task_at(2) + layout.tasks, task_at(3) + layout.tasks});
  for (const std::uint64_t pid : {1U, 2U}) {
    put_list(memory, kSignals + pid * 0x40 + layout.thread_head,
             {task_at(pid) + layout.thread_node});
  }
  put_list(memory, kSignals + 3 * 0x40 + layout.thread_head,
           {task_at(3) + layout.thread_node, task_at(4) + layout.thread_node});
  put(kBase + 960, std::uint32_t{2});
  put(kBase + 968, std::uint64_t{3});
  put(kBase + 976, std::uint64_t{3});
  for (const std::uint64_t cpu : {0U, 1U}) {
    const std::uint64_t area = kArea + cpu * 0x800;
    put(kBase + cpu * 8, area);
    put(area + 0x108, cpu == 0 ? task_at(2) : task_at(10));
    put(area + 0x110, cpu == 0 ? kInit : task_at(10));
    put(area + 0x20, kHeap + 0x7ff8);
    put(area + 0x28, kHeap + 0x6000);
  }
  Output output;
  put_memory(output, kWindows, memory);
  return {output.take()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
