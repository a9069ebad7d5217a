// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "introspect/kernel/cpus.h"
#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest number of tasks believed: far more than guests run, little enough for our memory.
inline constexpr std::size_t kMaxTasks = std::size_t{512} << 10U;

/// One thread of the guest, as its task_struct says; a copy made while the guest may have moved.
struct Task {
  GuestVirtAddr address;    ///< of its task_struct
  std::uint32_t tid = 0;    ///< in the initial namespace (task_struct.pid); 0 for idle tasks
  std::uint32_t pid = 0;    ///< its process (tgid)
  std::string name;         ///< comm, printable, at most 15 characters
  std::uint32_t state = 0;  ///< __state, the kernel's bits
  std::uint32_t exit_state = 0;
  std::uint64_t flags = 0;         ///< PF_* bits
  std::uint64_t thread_flags = 0;  ///< thread_info.flags
  bool on_cpu = false;
  std::uint32_t cpu = 0;       ///< last or present
  GuestVirtAddr stack;         ///< lowest address of its stack; 0 when freed
  GuestVirtAddr saved_sp;      ///< thread.sp, good while it does not run
  std::uint64_t switches = 0;  ///< nvcsw + nivcsw: unchanged if it has not run in between
  std::uint64_t start_ns = 0;  ///< start_time: with the tid, tells it from a later one
  /// task_struct.patch_state: -1 outside of a transition, 0 unpatched, 1 patched; nothing when the
  /// kernel has no livepatch.
  std::optional<std::int32_t> patch_state;
  bool patch_pending = false;            ///< TIF_PATCH_PENDING
  std::optional<std::uint32_t> idle_of;  ///< for idle tasks, the CPU

  bool kthread() const { return (flags & 0x00200000U) != 0; }  ///< PF_KTHREAD
  /// As ps and /proc show it: R, S, D, T, t, X, Z, P, I.
  char state_letter() const;
};

/// Where task_struct and its neighbours keep what a Task holds; probed once a boot.
struct TaskLayout {
  GuestVirtAddr init_task;
  std::uint64_t stack_size = 0;          ///< THREAD_SIZE, bytes: from thread_union.stack, or 16 KiB
  std::uint32_t patch_pending_bit = 13;  ///< TIF_PATCH_PENDING
  std::uint64_t tasks = 0, thread_node = 0, thread_head = 0;  ///< the last one in signal_struct
  std::uint64_t signal = 0;
  std::uint64_t pid = 0, tgid = 0, comm = 0, comm_size = 0, state = 0, exit_state = 0, flags = 0,
                thread_flags = 0, on_cpu = 0, cpu = 0, stack = 0, saved_sp = 0, nvcsw = 0,
                nivcsw = 0, start_time = 0;
  std::optional<std::uint64_t> patch_state;

  static Result<TaskLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// What a walk over the lists saw.
struct TaskList {
  std::vector<Task> tasks;  ///< processes in list order, each with its threads; idle tasks last
  /// The lists were cut short: torn by a guest that runs, or broken. Asking again may help.
  bool incomplete = false;
  std::string why;  ///< when incomplete
};

/// All threads of all processes, and the idle task of every CPU in `cpus`. Cycles and endless lists
/// end at kMaxTasks or where an entry repeats. A list that changes under the walk is walked again,
/// three times at most. Errc::torn when not even the first task could be read, Errc::corrupt for a
/// layout that no task_struct can have.
Result<TaskList> read_tasks(const VirtualMemory& memory, const TaskLayout& layout,
                            std::span<const Cpu> cpus);

/// Reads `tasks` anew, all together, from where they were: what a second look needs to tell who has
/// run in between. A task that cannot be read any more, or is another one now (tid or start time
/// differ), is empty.
std::vector<std::optional<Task>> read_again(const VirtualMemory& memory, const TaskLayout& layout,
                                            std::span<const Task> tasks);

}  // namespace vpatch::introspect
