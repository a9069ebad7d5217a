// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/tasks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/list_walk.h"
#include "introspect/kernel/task_record.h"

namespace vpatch::introspect {
namespace {

// include/linux/sched.h, from 5.14 to at least 6.12.
constexpr std::uint32_t kReported = 0x7f;
constexpr std::uint32_t kIdleSleep = 0x402;      // TASK_IDLE: both bits
constexpr std::uint32_t kShownAsSleep = 0x9000;  // TASK_RTLOCK_WAIT, TASK_FROZEN
constexpr std::string_view kStateLetters = "RSDTtXZPI";

/// THREAD_SIZE of x86-64 without KASAN.
constexpr std::uint64_t kUsualStackSize = std::uint64_t{16} * 1024;
/// How many task_structs read_again() copies at a time.
constexpr std::size_t kBatch = 256;

struct ListLinks {
  GuestVirtAddr next, prev;
};

/// One task_struct as the walk needs it.
struct Entry {
  Task task;
  ListLinks tasks, threads;
  GuestVirtAddr signal;
};

/// One attempt to list all tasks.
class Walk {
 public:
  Walk(const VirtualMemory& memory, const TaskLayout& layout, const TaskSpans& spans)
      : memory_(&memory), layout_(&layout), spans_(&spans), bytes_(spans.bytes()) {}

  Result<TaskList> run(std::span<const Cpu> cpus) {
    const GuestVirtAddr head = member_at(layout_->init_task, layout_->tasks);
    const auto first = read_pointer(*memory_, head);
    if (!first) {
      return fail(Errc::torn,
                  fmt::format("the guest's task list cannot be read: {}", first.error().what));
    }
    walk_processes(head, *first);
    if (list_.tasks.empty() && list_.incomplete) {
      return fail(Errc::torn, std::move(list_.why));
    }
    for (const Cpu& cpu : cpus) {
      add_idle(cpu);
    }
    return std::move(list_);
  }

 private:
  /// Keeps the first reason only.
  void incomplete(std::string why) {
    if (!list_.incomplete) {
      list_.incomplete = true;
      list_.why = std::move(why);
    }
  }

  std::optional<Entry> read_entry(GuestVirtAddr address) {
    reads_.clear();
    add_task_reads(reads_, *spans_, address, bytes_);
    memory_->read_many(reads_);
    if (!std::ranges::all_of(reads_, &VirtRead::done)) {
      return std::nullopt;
    }
    const TaskRecord record(*spans_, bytes_);
    const auto links = [&record](std::uint64_t at) {
      return ListLinks{record.pointer(at), record.pointer(at + 8)};
    };
    return Entry{record.decode(address, *layout_), links(layout_->tasks),
                 links(layout_->thread_node), record.pointer(layout_->signal)};
  }

  /// The next task of a list, added to the answer; nothing where the list ends badly.
  std::optional<Entry> take(GuestVirtAddr address) {
    if (list_.tasks.size() >= kMaxTasks) {
      incomplete(fmt::format("there would be more than {} tasks", kMaxTasks));
      return std::nullopt;
    }
    if (!seen_.insert(address.value()).second) {
      incomplete(fmt::format("the task at {:#x} is listed twice", address.value()));
      return std::nullopt;
    }
    auto entry = read_entry(address);
    if (!entry) {
      incomplete(fmt::format("the task at {:#x} cannot be read", address.value()));
      return std::nullopt;
    }
    if (entry->task.tid == 0 || entry->task.tid > kMaxPid) {
      incomplete(fmt::format("what should be a task at {:#x} has number {}", address.value(),
                             entry->task.tid));
      return std::nullopt;
    }
    list_.tasks.push_back(entry->task);
    return entry;
  }

  void check_back(GuestVirtAddr address, GuestVirtAddr prev, GuestVirtAddr expected) {
    if (prev != expected) {
      incomplete(fmt::format("the list moved at the task at {:#x}", address.value()));
    }
  }

  void walk_processes(GuestVirtAddr head, GuestVirtAddr node) {
    GuestVirtAddr before = head;
    while (node != head) {
      const GuestVirtAddr address = struct_of(node, layout_->tasks);
      const auto entry = take(address);
      if (!entry) {
        return;
      }
      check_back(address, entry->tasks.prev, before);
      before = node;
      node = entry->tasks.next;
      if (walk_threads(*entry)) {
        // That took a while: what comes next may be another one by now.
        if (const auto next = read_pointer(*memory_, before)) {
          node = *next;
        }
      }
    }
  }

  /// Follows the ring of `leader`'s threads, which its signal_struct is part of. Whether there are
  /// any.
  bool walk_threads(const Entry& leader) {
    const GuestVirtAddr start = member_at(leader.task.address, layout_->thread_node);
    const GuestVirtAddr head = member_at(leader.signal, layout_->thread_head);
    GuestVirtAddr before = start;
    GuestVirtAddr node = leader.threads.next;
    bool head_passed = false;
    bool any = false;
    while (node != start) {
      if (node == head) {
        // Nearly always the leader comes first in the list: no need to look at the head then.
        if (leader.threads.prev == head || head_passed) {
          return any;
        }
        const auto next = read_pointer(*memory_, head);
        if (!next) {
          incomplete(fmt::format("the threads of process {} cannot be read", leader.task.pid));
          return any;
        }
        head_passed = true;
        before = head;
        node = *next;
        continue;
      }
      const GuestVirtAddr address = struct_of(node, layout_->thread_node);
      const auto entry = take(address);
      if (!entry) {
        return any;
      }
      any = true;
      check_back(address, entry->threads.prev, before);
      if (entry->signal != leader.signal) {
        incomplete(fmt::format("thread {} is of another process than {}", entry->task.tid,
                               leader.task.pid));
        return any;
      }
      before = node;
      node = entry->threads.next;
    }
    return any;
  }

  void add_idle(const Cpu& cpu) {
    if (cpu.idle == GuestVirtAddr()) {
      return;  // a CPU that has never been started
    }
    auto entry = read_entry(cpu.idle);
    if (!entry || entry->task.tid != 0 || !seen_.insert(cpu.idle.value()).second) {
      incomplete(fmt::format("CPU {} has no idle task at {:#x}", cpu.number, cpu.idle.value()));
      return;
    }
    entry->task.idle_of = cpu.number;
    list_.tasks.push_back(std::move(entry->task));
  }

  const VirtualMemory* memory_;
  const TaskLayout* layout_;
  const TaskSpans* spans_;
  std::vector<std::byte> bytes_;
  std::vector<VirtRead> reads_;
  std::unordered_set<std::uint64_t> seen_;  // addresses of all tasks in list_, and no others but
                                            // that of the one that could not be read
  TaskList list_;
};

std::uint64_t probe_stack_size(LayoutProbe& probe) {
  std::uint64_t size = 0;
  if (const auto stack = probe.optional_member("thread_union", "stack")) {
    size = stack->size();
  }
  // The first task's stack lies in the kernel's image, its name depends on the release.
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kEdges = {
      {{"__start_init_stack", "__end_init_stack"}, {"__start_init_task", "__end_init_task"}}};
  for (const auto& [first, last] : kEdges) {
    const auto start = size == 0 ? probe.optional_symbol(first) : std::nullopt;
    const auto end = start ? probe.optional_symbol(last) : std::nullopt;
    if (end) {
      size = end->offset_from(*start).value_or(0);
    }
  }
  const bool plausible = std::has_single_bit(size) && size >= kPageSize && size <= 16 * kPageSize;
  return plausible ? size : kUsualStackSize;
}

}  // namespace

char Task::state_letter() const {
  if ((state & kShownAsSleep) != 0) {
    return 'D';
  }
  if ((state & kIdleSleep) == kIdleSleep) {
    return kStateLetters.back();
  }
  const std::uint32_t shown = (state | exit_state) & kReported;
  return kStateLetters[static_cast<std::size_t>(std::bit_width(shown))];
}

Result<TaskLayout> TaskLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  const auto of_task = [&probe](std::string_view path) {
    return probe.offset("task_struct", path);
  };
  const auto either = [&](std::string_view path, std::string_view older) {
    const auto found = probe.optional_offset("task_struct", path);
    return found ? *found : of_task(older);
  };
  TaskLayout layout;
  layout.init_task = probe.symbol("init_task");
  layout.stack_size = probe_stack_size(probe);
  layout.tasks = of_task("tasks");
  layout.thread_node = of_task("thread_node");
  layout.thread_head = probe.offset("signal_struct", "thread_head");
  layout.signal = of_task("signal");
  layout.pid = of_task("pid");
  layout.tgid = of_task("tgid");
  const Member comm = probe.member("task_struct", "comm");
  layout.comm = comm.offset();
  layout.comm_size = comm.size();
  layout.state = either("__state", "state");
  layout.exit_state = of_task("exit_state");
  layout.flags = of_task("flags");
  layout.thread_flags = of_task("thread_info.flags");
  layout.on_cpu = of_task("on_cpu");
  layout.cpu = either("thread_info.cpu", "cpu");
  layout.stack = of_task("stack");
  layout.saved_sp = of_task("thread.sp");
  layout.nvcsw = of_task("nvcsw");
  layout.nivcsw = of_task("nivcsw");
  layout.start_time = of_task("start_time");
  layout.patch_state = probe.optional_offset("task_struct", "patch_state");
  return std::move(probe).finish(layout);
}

Result<TaskList> read_tasks(const VirtualMemory& memory, const TaskLayout& layout,
                            std::span<const Cpu> cpus) {
  const auto spans = TaskSpans::of(layout);
  if (!spans) {
    return std::unexpected(spans.error());
  }
  auto best = Walk(memory, layout, *spans).run(cpus);
  for (int retry = 1; retry < kTornRetries && (!best || best->incomplete); ++retry) {
    auto again = Walk(memory, layout, *spans).run(cpus);
    if (again && (!best || !again->incomplete || again->tasks.size() > best->tasks.size())) {
      best = std::move(again);
    }
  }
  return best;
}

std::vector<std::optional<Task>> read_again(const VirtualMemory& memory, const TaskLayout& layout,
                                            std::span<const Task> tasks) {
  std::vector<std::optional<Task>> again(tasks.size());
  const auto spans = TaskSpans::of(layout);
  if (!spans) {
    return again;
  }
  const std::size_t size = spans->bytes();
  std::vector<std::byte> bytes(size * std::min(kBatch, tasks.size()));
  std::vector<VirtRead> reads;
  for (std::size_t first = 0; first < tasks.size(); first += kBatch) {
    const std::size_t count = std::min(kBatch, tasks.size() - first);
    reads.clear();
    for (std::size_t index = 0; index < count; ++index) {
      add_task_reads(reads, *spans, tasks[first + index].address,
                     std::span(bytes).subspan(index * size, size));
    }
    memory.read_many(reads);
    for (std::size_t index = 0; index < count; ++index) {
      const Task& before = tasks[first + index];
      const auto own = std::span(reads).subspan(index * spans->reads(), spans->reads());
      if (!std::ranges::all_of(own, &VirtRead::done)) {
        continue;
      }
      Task now = TaskRecord(*spans, std::span(bytes).subspan(index * size, size))
                     .decode(before.address, layout);
      if (now.tid == before.tid && now.start_ns == before.start_ns) {
        now.idle_of = before.idle_of;
        again[first + index] = std::move(now);
      }
    }
  }
  return again;
}

}  // namespace vpatch::introspect
