// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/cpus.h"

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch::introspect {
namespace {

/// IRQ_STACK_SIZE of x86-64, for kernels whose type information leaves struct irq_stack out.
constexpr std::uint64_t kIrqStackSize = std::uint64_t{16} * 1024;

constexpr std::array<std::string_view, 6> kExceptionStacks = {
    "DF_stack", "NMI_stack", "DB_stack", "MCE_stack", "VC_stack", "VC2_stack"};

/// A per-CPU variable of its own until 6.1 and from 6.15 on, in between a member of pcpu_hot.
void probe_irq_stack(LayoutProbe& probe, CpuLayout& layout) {
  layout.irq_stack_size = probe.optional_size_of("irq_stack").value_or(kIrqStackSize);
  if (const auto pointer = probe.optional_symbol("hardirq_stack_ptr")) {
    layout.irq_stack_ptr = pointer->value();
    return;
  }
  const auto hot = probe.optional_symbol("pcpu_hot");
  const auto member = probe.optional_offset("pcpu_hot", "hardirq_stack_ptr");
  if (hot && member) {
    layout.irq_stack_ptr = member_at(*hot, *member).value();
  }
}

/// Each CPU's entry area holds its entry stack and, after it, its exception stacks. Where the area
/// is, is random and kept nowhere, but the per-CPU cea_exception_stacks points into it.
void probe_entry_area(LayoutProbe& probe, CpuLayout& layout) {
  const auto pointer = probe.optional_symbol("cea_exception_stacks");
  if (!pointer) {
    return;
  }
  layout.exception_stacks_ptr = pointer->value();
  for (const std::string_view name : kExceptionStacks) {
    if (const auto stack = probe.optional_member("cea_exception_stacks", name);
        stack && stack->size() > 0) {
      layout.exception_stacks.emplace_back(stack->offset(), stack->size());
    }
  }
  const auto exceptions = probe.optional_offset("cpu_entry_area", "estacks");
  const auto entry = probe.optional_member("cpu_entry_area", "entry_stack_page.stack");
  if (exceptions && entry && entry->offset() < *exceptions) {
    layout.entry_stack_below = *exceptions - entry->offset();
    layout.entry_stack_size = entry->size();
  }
}

Result<std::vector<std::uint64_t>> read_words(const VirtualMemory& memory, GuestVirtAddr address,
                                              std::size_t count, std::string_view what) {
  std::vector<std::uint64_t> words(count);
  if (auto done = memory.read(address, std::as_writable_bytes(std::span(words))); !done) {
    return std::unexpected(std::move(done.error()).in_context(fmt::format("read {}", what)));
  }
  return words;
}

bool bit(std::span<const std::uint64_t> mask, std::uint32_t index) {
  return ((mask[index / 64] >> (index % 64)) & 1U) != 0;
}

Result<std::vector<Cpu>> possible_cpus(const VirtualMemory& memory, const CpuLayout& layout) {
  const auto count = read_value<std::uint32_t>(memory, layout.nr_cpu_ids);
  if (!count) {
    return std::unexpected(count.error());
  }
  if (*count == 0 || *count > kMaxCpus) {
    return fail(Errc::corrupt, fmt::format("the guest would have {} CPUs", *count));
  }
  const std::size_t mask_words = (*count + 63) / 64;
  const auto offsets = read_words(memory, layout.per_cpu_offset, *count, "__per_cpu_offset");
  const auto possible = read_words(memory, layout.possible_mask, mask_words, "the possible CPUs");
  const auto online = read_words(memory, layout.online_mask, mask_words, "the online CPUs");
  for (const auto* part : {&offsets, &possible, &online}) {
    if (!*part) {
      return std::unexpected(part->error());
    }
  }
  std::vector<Cpu> cpus;
  for (std::uint32_t number = 0; number < *count; ++number) {
    if (bit(*possible, number)) {
      Cpu cpu;
      cpu.number = number;
      cpu.per_cpu = GuestVirtAddr((*offsets)[number]);
      cpu.online = bit(*online, number);
      cpus.push_back(std::move(cpu));
    }
  }
  if (cpus.empty()) {
    return fail(Errc::corrupt, "the guest would have no CPU");
  }
  return cpus;
}

void add_range(std::vector<VirtRange>& ranges, GuestVirtAddr start, std::uint64_t size) {
  if (const auto range = VirtRange::make(start, size)) {
    ranges.push_back(*range);
  }
}

/// hardirq_stack_ptr names the topmost word of the stack, not its end.
void set_irq_stack(Cpu& cpu, const CpuLayout& layout, GuestVirtAddr top_word) {
  const std::uint64_t below = layout.irq_stack_size - sizeof(std::uint64_t);
  if (top_word.value() >= below) {
    add_range(cpu.irq_stacks, struct_of(top_word, below), layout.irq_stack_size);
  }
}

void set_entry_area(Cpu& cpu, const CpuLayout& layout, GuestVirtAddr exceptions) {
  if (exceptions == GuestVirtAddr()) {
    return;
  }
  for (const auto& [offset, size] : layout.exception_stacks) {
    if (const auto start = exceptions.plus(offset)) {
      add_range(cpu.exception_stacks, *start, size);
    }
  }
  if (layout.entry_stack_below && *layout.entry_stack_below <= exceptions.value()) {
    add_range(cpu.entry_stacks, struct_of(exceptions, *layout.entry_stack_below),
              layout.entry_stack_size);
  }
}

/// The pointers of one CPU that are read, in the order of Cpu's members.
struct Pointers {
  std::array<std::uint64_t, 4> values{};
};

}  // namespace

Result<CpuLayout> CpuLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  CpuLayout layout;
  layout.per_cpu_offset = probe.symbol("__per_cpu_offset");
  layout.nr_cpu_ids = probe.symbol("nr_cpu_ids");
  layout.online_mask = probe.symbol("__cpu_online_mask");
  layout.possible_mask = probe.symbol("__cpu_possible_mask");
  layout.runqueues = probe.symbol("runqueues").value();
  layout.rq_curr = probe.offset("rq", "curr");
  layout.rq_idle = probe.offset("rq", "idle");
  probe_irq_stack(probe, layout);
  probe_entry_area(probe, layout);
  return std::move(probe).finish(std::move(layout));
}

Result<std::vector<Cpu>> read_cpus(const VirtualMemory& memory, const CpuLayout& layout) {
  auto cpus = possible_cpus(memory, layout);
  if (!cpus) {
    return cpus;
  }
  std::vector<Pointers> pointers(cpus->size());
  std::vector<VirtRead> reads;
  reads.reserve(cpus->size() * 4);
  for (std::size_t index = 0; index < cpus->size(); ++index) {
    const GuestVirtAddr area = (*cpus)[index].per_cpu;
    const auto want = [&](std::size_t which, std::uint64_t offset) {
      const auto into = std::span(pointers[index].values).subspan(which, 1);
      reads.push_back({member_at(area, offset), std::as_writable_bytes(into)});
    };
    want(0, layout.runqueues + layout.rq_curr);
    want(1, layout.runqueues + layout.rq_idle);
    if (layout.irq_stack_ptr) {
      want(2, *layout.irq_stack_ptr);
    }
    if (layout.exception_stacks_ptr) {
      want(3, *layout.exception_stacks_ptr);
    }
  }
  memory.read_many(reads);
  for (const VirtRead& one : reads) {
    if (!one.done) {
      return fail(Errc::out_of_range,
                  fmt::format("a CPU's own data at {:#x} cannot be read", one.address.value()));
    }
  }
  for (std::size_t index = 0; index < cpus->size(); ++index) {
    const auto& values = pointers[index].values;
    Cpu& cpu = (*cpus)[index];
    cpu.current = GuestVirtAddr(values[0]);
    cpu.idle = GuestVirtAddr(values[1]);
    if (values[2] != 0) {
      set_irq_stack(cpu, layout, GuestVirtAddr(values[2]));
    }
    set_entry_area(cpu, layout, GuestVirtAddr(values[3]));
  }
  return cpus;
}

}  // namespace vpatch::introspect
