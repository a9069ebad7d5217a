// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/stack_walk.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
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
  Walker(GuestKernel& kernel, const LookOptions& options, std::span<const Cpu> cpus,
         const OrcTables* orc)
      : kernel_(kernel),
        options_(options),
        cpus_(cpus),
        orc_(orc),
        stack_size_(std::min(kernel.layouts().tasks.stack_size, kMaxStack)),
        vcpus_(match_vcpus(cpus, options.vcpus)) {}

  /// Fills in what the tasks do and their traces.
  void walk(std::span<TaskStack> tasks) {
    std::vector<Task> before;
    for (TaskStack& one : tasks) {
      before.push_back(one.task);
    }
    std::vector<std::vector<std::byte>> stacks(tasks.size());
    std::vector<VirtRead> reads;
    std::vector<std::size_t> owners;
    for (std::size_t index = 0; index < tasks.size(); ++index) {
      const Task& task = tasks[index].task;
      if (const auto used = used_stack(task); used && !task.on_cpu) {
        stacks[index].resize(used->size());
        reads.push_back({used->start(), stacks[index]});
        owners.push_back(index);
      }
    }
    kernel_.memory().read_many(reads);
    std::vector<bool> copied(tasks.size());
    for (std::size_t read = 0; read < reads.size(); ++read) {
      copied[owners[read]] = reads[read].done;
    }
    const auto after = read_again(kernel_.memory(), kernel_.layouts().tasks, before);
    for (std::size_t index = 0; index < tasks.size(); ++index) {
      TaskStack& one = tasks[index];
      if (one.task.on_cpu) {
        walk_running(one);
      } else if (!slept(one.task, index < after.size() ? after[index] : std::nullopt)) {
        one.activity = Activity::running;
        one.trace.unreliable = Unreliable::running;
      } else {
        one.activity = Activity::asleep;
        one.trace = walk_sleeper(one.task, stacks[index], copied[index]);
      }
    }
  }

 private:
  /// From the saved stack pointer to the end of the task's stack.
  std::optional<VirtRange> used_stack(const Task& task) const {
    const auto stack = VirtRange::make(task.stack, stack_size_);
    if (task.stack.value() == 0 || !stack || !stack->holds(task.saved_sp, 1)) {
      return std::nullopt;
    }
    return VirtRange::between(task.saved_sp, stack->end());
  }

  static bool slept(const Task& before, const std::optional<Task>& after) {
    return after && !after->on_cpu && after->switches == before.switches &&
           after->saved_sp == before.saved_sp && after->stack == before.stack;
  }

  Trace failed(Unreliable why) const {
    Trace trace;
    trace.unreliable = why;
    return trace;
  }

  Trace walk_sleeper(const Task& task, std::span<const std::byte> stack, bool copied) const {
    if (orc_ == nullptr) {
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
    const UnwindLayout& layout = *kernel_.layouts().unwind;
    const auto start = start_of_sleeper(memory, task.saved_sp, layout);
    if (!start) {
      return failed(Unreliable::bad_stack);
    }
    // The exact ranges matter: the kernel's rule asks that the end of the stack is reached.
    const std::array areas = {StackArea{StackKind::task, *used}};
    return unwind(*start, areas, memory, *orc_, layout);
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
      one.trace = orc_ == nullptr ? failed(Unreliable::unknown_format)
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
    return unwind(start, areas, kernel_.memory(), *orc_, *kernel_.layouts().unwind);
  }

  GuestKernel& kernel_;
  const LookOptions& options_;
  std::span<const Cpu> cpus_;
  const OrcTables* orc_;  // null when this kernel's stacks cannot be walked
  std::uint64_t stack_size_;
  VcpuByCpu vcpus_;
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
  Walker walker(kernel, options, look.cpus, kernel.orc_tables(look.modules));
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
  return look;
}

}  // namespace vpatch::introspect
