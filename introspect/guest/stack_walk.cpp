// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/stack_walk.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <unordered_map>
#include <utility>

namespace vpatch::introspect {
namespace {

constexpr std::size_t kTasksAtOnce = 256;
constexpr std::size_t kMaxFramesInAll = std::size_t{2} << 20U;
constexpr std::uint64_t kMaxStack = std::uint64_t{64} << 10;

/// The copy of one task's stack, from its saved stack pointer to its end.
class StackCopy final : public VirtualMemory {
 public:
  StackCopy(GuestVirtAddr start, std::span<const std::byte> bytes) : start_(start), bytes_(bytes) {}

  Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override {
    const std::uint64_t offset = address.value() - start_.value();  // wraps below the start
    if (offset > bytes_.size() || into.size() > bytes_.size() - offset) {
      return fail(Errc::out_of_range, "outside of the copied stack");
    }
    std::ranges::copy(bytes_.subspan(offset, into.size()), into.begin());
    return {};
  }

 private:
  GuestVirtAddr start_;
  std::span<const std::byte> bytes_;
};

using VcpuByCpu = std::map<std::uint32_t, const VcpuRegisters*>;

/// Which vCPU is which CPU of the kernel. In kernel mode GS tells. In user mode GS is the
/// program's, and the kernel's value is not always told; but when as many CPUs as vCPUs are left
/// and all of these run user code, it does not matter which is which.
VcpuByCpu match_vcpus(std::span<const Cpu> cpus, std::span<const VcpuRegisters> vcpus) {
  VcpuByCpu matched;
  std::vector<const VcpuRegisters*> left;
  for (const VcpuRegisters& vcpu : vcpus) {
    const auto cpu = std::ranges::find_if(cpus, [&](const Cpu& candidate) {
      const std::uint64_t base = candidate.per_cpu.value();
      // The other one of the two is the program's, who may write there what he likes.
      return base != 0 && base == (vcpu.user_mode() ? vcpu.kernel_gs_base : vcpu.gs_base);
    });
    if (cpu == cpus.end() || !matched.emplace(cpu->number, &vcpu).second) {
      left.push_back(&vcpu);
    }
  }
  std::vector<std::uint32_t> free;
  for (const Cpu& cpu : cpus) {
    if (cpu.online && !matched.contains(cpu.number)) {
      free.push_back(cpu.number);
    }
  }
  if (left.size() == free.size() && std::ranges::all_of(left, &VcpuRegisters::user_mode)) {
    for (std::size_t index = 0; index < left.size(); ++index) {
      matched.emplace(free[index], left[index]);
    }
  }
  return matched;
}

/// Walks the stacks of one look.
class Walker {
 public:
  Walker(const StackSource& source, const LookOptions& options, std::span<const Cpu> cpus)
      : source_(source),
        options_(options),
        cpus_(cpus),
        stack_size_(std::min(source.tasks->stack_size, kMaxStack)),
        vcpus_(match_vcpus(cpus, options.vcpus)) {
    if (options.before != nullptr) {
      for (const TaskStack& one : options.before->tasks) {
        if (one.activity == Activity::asleep) {
          slept_before_.emplace(one.task.address.value(), &one);
        }
      }
    }
  }

  /// Fills in what the tasks do and their traces.
  void walk(std::span<TaskStack> tasks) const {
    std::vector<Sleeper> sleepers;
    for (TaskStack& one : tasks) {
      if (one.task.on_cpu) {
        walk_running(one);
      } else if (const Trace* const known = known_trace(one.task)) {
        one.activity = Activity::asleep;
        one.trace = *known;
      } else {
        sleepers.push_back({&one, {}, false});
      }
    }
    copy_stacks(sleepers);
    const std::vector<bool> asleep = still_asleep(sleepers);
    for (std::size_t index = 0; index < sleepers.size(); ++index) {
      const Sleeper& sleeper = sleepers[index];
      sleeper.task->activity = asleep[index] ? Activity::asleep : Activity::running;
      sleeper.task->trace = asleep[index]
                                ? walk_sleeper(sleeper.task->task, sleeper.stack, sleeper.copied)
                                : failed(Unreliable::running);
    }
  }

 private:
  /// A task that does not run, and the copy of its stack.
  struct Sleeper {
    TaskStack* task = nullptr;
    std::vector<std::byte> stack;
    bool copied = false;
  };

  void copy_stacks(std::span<Sleeper> sleepers) const {
    std::vector<VirtRead> reads;
    std::vector<Sleeper*> owners;
    for (Sleeper& one : sleepers) {
      if (const auto used = used_stack(one.task->task)) {
        one.stack.resize(used->size());
        reads.push_back({used->start(), one.stack});
        owners.push_back(&one);
      }
    }
    source_.memory->read_many(reads);
    for (std::size_t read = 0; read < reads.size(); ++read) {
      owners[read]->copied = reads[read].done;
    }
  }

  /// Which of them have not run while their stacks were copied.
  std::vector<bool> still_asleep(std::span<const Sleeper> sleepers) const {
    std::vector<bool> asleep(sleepers.size(), options_.paused);
    if (options_.paused) {
      return asleep;
    }
    std::vector<Task> before;
    for (const Sleeper& one : sleepers) {
      before.push_back(one.task->task);
    }
    const auto after = read_again(*source_.memory, *source_.tasks, before);
    for (std::size_t index = 0; index < std::min(after.size(), before.size()); ++index) {
      const auto& now = after[index];
      asleep[index] = now && slept(before[index], *now);
    }
    return asleep;
  }

  /// The trace of a task that has slept since the earlier look; null when it has not.
  const Trace* known_trace(const Task& task) const {
    const auto found = slept_before_.find(task.address.value());
    if (found == slept_before_.end()) {
      return nullptr;
    }
    const TaskStack& before = *found->second;
    const bool same = before.task.tid == task.tid && before.task.start_ns == task.start_ns;
    return same && slept(before.task, task) ? &before.trace : nullptr;
  }

  /// From the saved stack pointer to the end of the task's stack.
  std::optional<VirtRange> used_stack(const Task& task) const {
    const auto stack = VirtRange::make(task.stack, stack_size_);
    if (task.stack.value() == 0 || !stack || !stack->holds(task.saved_sp, 1)) {
      return std::nullopt;
    }
    return VirtRange::between(task.saved_sp, stack->end());
  }

  /// Whether a task that slept has not run until it was seen again.
  static bool slept(const Task& before, const Task& after) {
    return !after.on_cpu && after.switches == before.switches &&
           after.saved_sp == before.saved_sp && after.stack == before.stack;
  }

  static Trace failed(Unreliable why) {
    Trace trace;
    trace.unreliable = why;
    return trace;
  }

  Trace walk_sleeper(const Task& task, std::span<const std::byte> stack, bool copied) const {
    if (source_.orc == nullptr) {
      return failed(Unreliable::unknown_format);
    }
    if (task.stack.value() == 0) {
      // A zombie's stack has been given back: nothing can be on it, and the kernel says so too.
      return task.exit_state != 0 ? Trace{} : failed(Unreliable::no_stack);
    }
    const auto used = used_stack(task);
    if (!used) {
      return failed(Unreliable::bad_stack);
    }
    if (!copied) {
      return failed(Unreliable::unreadable);
    }
    const StackCopy memory(used->start(), stack);
    const UnwindLayout& layout = *source_.unwind;
    const auto start = start_of_sleeper(memory, task.saved_sp, layout);
    if (!start) {
      return failed(Unreliable::bad_stack);
    }
    // The exact ranges matter: the kernel's rule asks that the end of the stack is reached.
    const std::array areas = {StackArea{StackKind::task, *used}};
    return unwind(*start, areas, memory, *source_.orc, layout);
  }

  void walk_running(TaskStack& one) const {
    one.activity = Activity::running;
    one.trace.unreliable = Unreliable::running;
    const auto cpu = std::ranges::find(cpus_, one.task.address, &Cpu::current);
    const auto vcpu = cpu == cpus_.end() ? vcpus_.end() : vcpus_.find(cpu->number);
    if (vcpu == vcpus_.end()) {
      return;
    }
    one.vcpu = vcpu->second->index;
    if (vcpu->second->user_mode()) {
      one.activity = Activity::in_user;
      one.trace.unreliable = Unreliable::none;
    } else {
      one.activity = Activity::in_kernel;
      one.trace = source_.orc == nullptr ? failed(Unreliable::unknown_format)
                                         : walk_vcpu(one.task, *cpu, *vcpu->second);
    }
    if (!options_.paused) {
      one.trace.unreliable = Unreliable::running;
    }
  }

  Trace walk_vcpu(const Task& task, const Cpu& cpu, const VcpuRegisters& vcpu) const {
    std::vector<StackArea> areas;
    if (const auto stack = VirtRange::make(task.stack, stack_size_)) {
      areas.push_back({StackKind::task, *stack});
    }
    const auto add = [&](StackKind kind, std::span<const VirtRange> ranges) {
      for (const VirtRange& range : ranges) {
        areas.push_back({kind, range});
      }
    };
    add(StackKind::irq, cpu.irq_stacks);
    add(StackKind::exception, cpu.exception_stacks);
    add(StackKind::entry, cpu.entry_stacks);
    const UnwindStart start{.ip = vcpu.rip,
                            .sp = vcpu.rsp,
                            .bp = vcpu.rbp,
                            .exact = true,
                            .r10 = vcpu.r10,
                            .r13 = vcpu.r13,
                            .di = vcpu.rdi,
                            .dx = vcpu.rdx};
    return unwind(start, areas, *source_.memory, *source_.orc, *source_.unwind);
  }

  const StackSource& source_;
  const LookOptions& options_;
  std::span<const Cpu> cpus_;
  std::uint64_t stack_size_;
  VcpuByCpu vcpus_;
  std::unordered_map<std::uint64_t, const TaskStack*> slept_before_;  // by address of the task
};

}  // namespace

std::string_view to_string(Activity activity) {
  switch (activity) {
    case Activity::asleep:
      return "asleep";
    case Activity::in_kernel:
      return "in-kernel";
    case Activity::in_user:
      return "in-user";
    case Activity::running:
      break;
  }
  return "running";
}

void walk_stacks(const StackSource& source, const LookOptions& options, Look& look) {
  const Walker walker(source, options, look.cpus);
  std::size_t frames = 0;
  for (std::size_t first = 0; first < look.tasks.size(); first += kTasksAtOnce) {
    const std::size_t count = std::min(kTasksAtOnce, look.tasks.size() - first);
    const auto some = std::span(look.tasks).subspan(first, count);
    walker.walk(some);
    for (const TaskStack& one : some) {
      frames += one.trace.frames.size();
    }
    if (frames > kMaxFramesInAll) {
      look.tasks.resize(first + count);
      look.incomplete = true;
      look.why = "the guest shows more stack frames than are believed";
    }
  }
}

Result<Look> look_at_stacks(GuestKernel& kernel, const LookOptions& options) {
  kernel.forget_pages();
  const KernelLayouts& layouts = kernel.layouts();
  auto cpus = read_cpus(kernel.memory(), layouts.cpus);
  if (!cpus) {
    return std::unexpected(std::move(cpus.error()).in_context("read the guest's CPUs"));
  }
  auto modules = read_modules(kernel.memory(), layouts.modules);
  if (!modules) {
    return std::unexpected(std::move(modules.error()).in_context("read the guest's modules"));
  }
  auto list = read_tasks(kernel.memory(), layouts.tasks, *cpus);
  if (!list) {
    return std::unexpected(std::move(list.error()).in_context("list the guest's tasks"));
  }

  Look look;
  look.cpus = *std::move(cpus);
  look.modules = *std::move(modules);
  look.incomplete = list->incomplete;
  look.why = std::move(list->why);
  for (Task& task : list->tasks) {
    if (!options.wanted || options.wanted(task)) {
      look.tasks.push_back({std::move(task), Activity::running, {}, {}});
    }
  }
  const StackSource source{.memory = &kernel.memory(),
                           .tasks = &layouts.tasks,
                           .orc = kernel.orc_tables(look.modules),
                           .unwind = layouts.unwind ? &*layouts.unwind : nullptr};
  walk_stacks(source, options, look);
  return look;
}

}  // namespace vpatch::introspect
