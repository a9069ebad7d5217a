// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "fake_orc.h"
#include "introspect/stacks/unwinder.h"

namespace vpatch::introspect::testing {

inline constexpr std::uint64_t kText = 0xffffffff81000000;
inline constexpr std::uint64_t kTextSize = 0x10000;
inline constexpr std::uint64_t kTaskStack = 0xffffc90000000000;
inline constexpr std::uint64_t kTaskEnd = kTaskStack + 0x4000;
inline constexpr std::uint64_t kIrqStack = 0xffffc90000100000;
inline constexpr std::uint64_t kIrqEnd = kIrqStack + 0x4000;
inline constexpr std::uint64_t kKernelCs = 0x10;
inline constexpr std::uint64_t kUserCs = 0x33;

/// The start of the function with this number, and where a call it made returns to.
constexpr std::uint64_t function(unsigned number) {
  return kText + std::uint64_t{number} * 0x100;
}
constexpr std::uint64_t in(unsigned number) {
  return function(number) + 0x20;
}

/// What of a struct pt_regs is looked at.
struct FakeRegs {
  std::uint64_t ip = 0, cs = kKernelCs, sp = 0, bp = 0;
  std::uint64_t r10 = 0, r13 = 0, di = 0, dx = 0;
};

/// A kernel of numbered functions, and the stack of a task that sleeps in the first.
class UnwindTest : public ::testing::Test {
 protected:
  /// Describes a function's frame.
  void define(unsigned number, const RawOrc& orc) { table.add(function(number), orc); }

  /// The next frame up the task's stack: `size` bytes, the return address being the last of them.
  void push(std::uint64_t size, std::uint64_t return_address) {
    for (std::uint64_t at = 0; at < size; at += 8) {
      put(top + at, 0x5a5a5a5a);
    }
    top += size;
    put(top - 8, return_address);
  }
  void push_regs(const FakeRegs& regs) {
    put_regs(top, regs);
    top += 168;
  }

  void put(std::uint64_t address, std::uint64_t word) { memory.put(GuestVirtAddr(address), word); }
  void put_regs(std::uint64_t at, const FakeRegs& regs);

  UnwindStart sleeper() const { return {.ip = GuestVirtAddr(in(0)), .sp = GuestVirtAddr(kFirst)}; }
  Trace walk(const UnwindStart& start);
  Trace walk() { return walk(sleeper()); }

  static constexpr std::uint64_t kFirst = kTaskEnd - 0x800;

  SparseVirtualMemory memory;
  OrcBuilder table;
  std::uint64_t top = kFirst;
  std::vector<StackArea> stacks = {{StackKind::task, range(kTaskStack, 0x4000)},
                                   {StackKind::irq, range(kIrqStack, 0x4000)}};
  UnwindLayout layout = UnwindLayout::probe(types_of_6_12()).value();
};

inline void UnwindTest::put_regs(std::uint64_t at, const FakeRegs& regs) {
  for (std::uint64_t word = 0; word < layout.regs_size; word += 8) {
    put(at + word, 0xabababab);
  }
  put(at + layout.ip, regs.ip);
  put(at + layout.cs, regs.cs);
  put(at + layout.sp, regs.sp);
  put(at + layout.bp, regs.bp);
  put(at + layout.r10, regs.r10);
  put(at + layout.r13, regs.r13);
  put(at + layout.di, regs.di);
  put(at + layout.dx, regs.dx);
}

inline Trace UnwindTest::walk(const UnwindStart& start) {
  const auto location =
      table.write(memory, range(kText, kTextSize), kText + 0x1000000, kText + 0x2000000);
  const OrcTables orc(memory, table.format(), {location});
  return unwind(start, stacks, memory, orc, layout);
}

inline std::vector<std::uint64_t> addresses(const Trace& trace) {
  std::vector<std::uint64_t> all;
  for (const Frame& frame : trace.frames) {
    all.push_back(frame.address.value());
  }
  return all;
}

using Addresses = std::vector<std::uint64_t>;

}  // namespace vpatch::introspect::testing
