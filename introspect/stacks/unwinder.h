// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/stacks/orc.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The kernel's stacks (enum stack_type in arch/x86/include/asm/stacktrace.h).
enum class StackKind : std::uint8_t { task, irq, softirq, entry, exception };

/// One of them.
struct StackArea {
  StackKind kind{};
  VirtRange range;
};

/// Why a trace proves nothing; the kernel's rule (arch_stack_walk_reliable() in
/// arch/x86/kernel/stacktrace.c) made more detailed.
enum class Unreliable : std::uint8_t {
  none,            ///< it is reliable: every frame is accounted for down to the end marker
  no_orc,          ///< an address in kernel text without ORC entry, or its table is unreadable
  undefined,       ///< the entry says that the frame cannot be unwound, or needs a lost register
  bad_address,     ///< a return address outside of known kernel text: 0, or generated code
  bad_stack,       ///< a frame outside of its stack, or one that does not move towards its end
  unreadable,      ///< stack memory could not be read
  trampoline,      ///< a return trampoline of kretprobe, rethook or function graph
  too_long,        ///< more frames than kMaxFrames
  running,         ///< it ran, or moved, while its stack was read
  no_stack,        ///< the task has no stack any more
  unknown_format,  ///< this kernel's ORC layout is not known here
};

/// A stable word for each, such as "no-orc"; and a sentence for people.
std::string_view to_string(Unreliable why);
std::string_view describe(Unreliable why);

/// MAX_STACK_ENTRIES of kernel/livepatch/transition.c.
inline constexpr std::size_t kMaxFrames = 100;

/// One address on a stack.
struct Frame {
  GuestVirtAddr address;
  /// The instruction that runs or was interrupted; false for a return address, whose call lies just
  /// before it.
  bool exact = false;
  StackKind stack{};

  friend bool operator==(const Frame&, const Frame&) = default;
};

/// Innermost frame first.
struct Trace {
  std::vector<Frame> frames;
  Unreliable unreliable = Unreliable::none;

  bool reliable() const { return unreliable == Unreliable::none; }
};

/// Where an unwind starts. A sleeping task has ip, sp and bp from its saved frame; a running one
/// all registers of its vCPU.
struct UnwindStart {
  GuestVirtAddr ip;
  GuestVirtAddr sp;
  std::uint64_t bp = 0;
  bool exact = false;  ///< ip runs (a vCPU's RIP), or will, rather than being a return address
  std::uint64_t r10 = 0, r13 = 0, di = 0, dx = 0;  ///< only looked at when `exact`
};

/// The largest struct pt_regs believed, in bytes; kernels have 168.
inline constexpr std::size_t kMaxRegsSize = 512;

/// Of `stacks` given to unwind(), those after this many are not looked at.
inline constexpr std::size_t kMaxStacks = 64;

/// Where struct pt_regs and struct inactive_task_frame have their members, and what addresses are
/// special. One a boot.
struct UnwindLayout {
  std::uint64_t regs_size = 0;
  std::uint64_t ip = 0, sp = 0, bp = 0, cs = 0, flags = 0;
  std::uint64_t r10 = 0, r13 = 0, di = 0, dx = 0;
  std::uint64_t frame_size = 0, frame_bp = 0, frame_ip = 0;  ///< of a sleeper's saved frame
  std::vector<VirtRange> trampolines;  ///< arch_rethook_trampoline, return_to_handler, ...
  /// Where a new task starts: ret_from_fork_asm, or ret_from_fork in kernels without it. Left 0,
  /// traces of tasks that have not run yet are unreliable.
  GuestVirtAddr fork_entry;

  /// The structures' part from type information; the addresses are the caller's.
  static Result<UnwindLayout> probe(const Types& types);
};

/// Where a task that does not run left off, from the frame at its saved stack pointer
/// (task_struct.thread.sp). Makes no claim on whether the task really slept. Errc::out_of_range
/// when the frame runs past 64 bits, errors of the memory.
Result<UnwindStart> start_of_sleeper(const VirtualMemory& memory, GuestVirtAddr saved_sp,
                                     const UnwindLayout& layout);

/// Walks one stack. Bounded by kMaxFrames frames, each at a rising address of its stack, each stack
/// entered once; never recurses, never reads outside of `stacks`. User-mode registers, and the end
/// marker of kernel threads and idle tasks, end it well; OrcType::empty only where nothing but a
/// struct pt_regs is left on the task's stack.
///
/// The frames of a trace that is not reliable are those found until the walk had to stop. An
/// address that is bad_address is none of them, any other one that ends the walk is the last.
///
/// `memory` is asked for stack words only, 8 bytes to a struct pt_regs at a time: give it a copy of
/// the stack where speed matters. The order of `stacks` does not matter.
Trace unwind(const UnwindStart& start, std::span<const StackArea> stacks,
             const VirtualMemory& memory, const OrcTables& orc, const UnwindLayout& layout);

}  // namespace vpatch::introspect
