// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest number of CPUs believed (NR_CPUS of x86-64 is 8192).
inline constexpr std::uint32_t kMaxCpus = 8192;

/// One CPU as the guest's kernel keeps it.
struct Cpu {
  std::uint32_t number = 0;  ///< the kernel's
  GuestVirtAddr per_cpu;     ///< __per_cpu_offset[number], which GS holds in the kernel
  bool online = false;
  GuestVirtAddr current;                    ///< task_struct that runs (rq.curr)
  GuestVirtAddr idle;                       ///< its idle task (rq.idle)
  std::vector<VirtRange> irq_stacks;        ///< interrupt stack; at most 1
  std::vector<VirtRange> exception_stacks;  ///< DF, NMI, DB, MCE, VC; at most 6
  std::vector<VirtRange> entry_stacks;      ///< the entry trampoline's; at most 1
};

/// What read_cpus() looks up, probed once a boot. What a kernel does not tell of its stacks is
/// absent, and so are then the stacks.
struct CpuLayout {
  GuestVirtAddr per_cpu_offset;  ///< __per_cpu_offset[]
  GuestVirtAddr nr_cpu_ids;
  GuestVirtAddr online_mask;    ///< __cpu_online_mask
  GuestVirtAddr possible_mask;  ///< __cpu_possible_mask
  std::uint64_t runqueues = 0;  ///< offset in the per-CPU area
  std::uint64_t rq_curr = 0, rq_idle = 0;
  std::optional<std::uint64_t> irq_stack_ptr;  ///< offset in the per-CPU area: hardirq_stack_ptr
  std::uint64_t irq_stack_size = 0;
  /// Offset in the per-CPU area: cea_exception_stacks.
  std::optional<std::uint64_t> exception_stacks_ptr;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> exception_stacks;  ///< offset, size in it
  /// How many bytes the entry stack lies below the exception stacks, see the .cpp.
  std::optional<std::uint64_t> entry_stack_below;
  std::uint64_t entry_stack_size = 0;

  static Result<CpuLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// Every possible CPU, in rising order. Errc::corrupt when there would be none or more than
/// kMaxCpus, and any error of the memory.
Result<std::vector<Cpu>> read_cpus(const VirtualMemory& memory, const CpuLayout& layout);

}  // namespace vpatch::introspect
