// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "introspect/guest/guest_kernel.h"
#include "introspect/vcpu_registers.h"

namespace vpatch::introspect {

/// What a task does at the moment of a look.
enum class Activity : std::uint8_t {
  asleep,     ///< off its CPU from before until after its stack was read
  in_kernel,  ///< its CPU runs it, in kernel mode
  in_user,    ///< its CPU runs it, in user mode: no kernel function is on its stack
  running,    ///< it runs, or has run during the look; where is not known
};

/// A stable word for each, such as "asleep".
std::string_view to_string(Activity activity);

/// One task and its kernel stack.
struct TaskStack {
  Task task;
  Activity activity{};
  Trace trace;                        ///< empty, and reliable, in user mode
  std::optional<std::uint32_t> vcpu;  ///< the VMM's number of the vCPU that runs it
};

/// What one look at a guest saw.
struct Look {
  std::vector<Cpu> cpus;
  std::vector<Module> modules;
  std::vector<TaskStack> tasks;  ///< in the order of read_tasks()
  bool incomplete = false;       ///< the task list was torn: some tasks are missing
  std::string why;               ///< when incomplete
};

struct LookOptions {
  /// Registers of all vCPUs, taken once just before the look; without them running tasks have no
  /// stack.
  std::span<const VcpuRegisters> vcpus;
  /// The guest is paused: registers and memory belong together, and nothing moves.
  bool paused = false;
  /// Which tasks' stacks are wanted; all when empty. Tasks not wanted are left out of the answer.
  std::function<bool(const Task&)> wanted;
  /// An earlier look at the same boot, if any. A task that sleeps, and has slept since that look
  /// saw it asleep, gets its trace from there; its stack is not read. For a look inside a pause
  /// after one just before it.
  const Look* before = nullptr;
};

/// Lists all tasks and walks their stacks, without pausing the guest. A sleeping task's stack is
/// copied, unwound, and believed only when the task has not run in the meantime, shown by its
/// context switch counters; otherwise it counts as running and its trace as unreliable. In a pause
/// nothing can run, and what is not on a CPU sleeps.
///
/// Memory used is bounded: stacks are copied some hundred at a time.
Result<Look> look_at_stacks(GuestKernel& kernel, const LookOptions& options);

/// What walking stacks takes of a kernel.
struct StackSource {
  const VirtualMemory* memory = nullptr;
  const TaskLayout* tasks = nullptr;
  const OrcTables* orc = nullptr;        ///< null when this kernel's stacks cannot be walked
  const UnwindLayout* unwind = nullptr;  ///< not null with `orc`
};

/// The second half of look_at_stacks(): `look` has its CPUs and tasks, and gets what these do and
/// their traces.
void walk_stacks(const StackSource& source, const LookOptions& options, Look& look);

}  // namespace vpatch::introspect
