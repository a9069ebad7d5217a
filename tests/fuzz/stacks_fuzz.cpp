// SPDX-License-Identifier: Apache-2.0
// ORC tables and the stacks that are walked by them.
#include "introspect/stacks/orc.h"
#include "introspect/stacks/unwinder.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/stacks/fake_orc.h"

namespace vpatch::fuzz {
namespace {

using introspect::StackKind;
using introspect::VirtRange;
namespace fakes = introspect::testing;

constexpr std::uint64_t kText = 0xffff'ffff'8100'0000;
constexpr std::uint64_t kModuleText = 0xffff'ffff'c000'0000;
constexpr std::uint64_t kStack = 0xffff'c900'0000'0000;
constexpr std::uint64_t kIrqStack = 0xffff'c900'0010'0000;
// Tables of the kernel and of a module, then stacks.
constexpr std::array<Window, 6> kWindows = {{{kText + 0x10'0000, 8192},
                                             {kText + 0x20'0000, 16384},
                                             {kModuleText + 0x10'0000, 1024},
                                             {kModuleText + 0x20'0000, 2048},
                                             {kStack, 16384},
                                             {kIrqStack, 16384}}};

void fuzz_one(std::span<const std::byte> bytes) {
  static const auto old_types = fakes::types_of_6_1();
  static const auto new_types = fakes::types_of_6_12();
  Input input(bytes);
  const auto shape = input.take<std::uint8_t>();
  const auto& types = (shape & 1U) != 0 ? old_types : new_types;
  const auto format = introspect::OrcFormat::probe(types);
  auto layout = introspect::UnwindLayout::probe(types);
  if (!format || !layout) {
    std::abort();
  }
  layout->fork_entry = GuestVirtAddr(kText + 0x8000);
  layout->trampolines = {fakes::range(kText + 0x9000, 128)};
  const auto kernel_count = input.take<std::uint16_t>();
  const auto module_count = input.take<std::uint8_t>();
  introspect::UnwindStart start{.ip = GuestVirtAddr(kText + input.take<std::uint16_t>()),
                                .sp = GuestVirtAddr(kStack + input.take<std::uint16_t>()),
                                .bp = kStack + input.take<std::uint16_t>(),
                                .exact = (shape & 2U) != 0,
                                .r10 = kStack + input.take<std::uint16_t>(),
                                .r13 = kIrqStack + input.take<std::uint16_t>(),
                                .di = input.take<std::uint64_t>(),
                                .dx = input.take<std::uint64_t>()};
  const FuzzMemory memory(kWindows, input);
  std::vector<introspect::OrcTableLocation> tables = {
      {fakes::range(kText, 0x1'0000), GuestVirtAddr(kWindows[0].base),
       GuestVirtAddr(kWindows[1].base), kernel_count},
      {fakes::range(kModuleText, 0x1000), GuestVirtAddr(kWindows[2].base),
       GuestVirtAddr(kWindows[3].base), module_count}};
  const introspect::OrcTables orc(memory, *format, tables);
  if ((shape & 4U) != 0) {
    const auto sleeper = introspect::start_of_sleeper(memory, start.sp, *layout);
    if (sleeper) {
      start = *sleeper;
    }
  }
  const std::array<introspect::StackArea, 2> stacks = {
      {{StackKind::task, fakes::range(kStack, 0x4000)},
       {StackKind::irq, fakes::range(kIrqStack, 0x4000)}}};
  const auto trace = introspect::unwind(start, stacks, memory, orc, *layout);
  if (trace.frames.size() > introspect::kMaxFrames) {
    std::abort();
  }
  for (int question = 0; question < 4; ++question) {
    static_cast<void>(orc.find(GuestVirtAddr(input.take<std::uint64_t>())));
  }
}

Bytes seed(std::uint8_t shape, bool with_regs) {
  fakes::SparseVirtualMemory memory;
  fakes::OrcBuilder table;
  table.add(kText, fakes::call_frame(16));
  table.add(kText + 0x100, fakes::call_frame(32));
  fakes::RawOrc regs{.sp_reg = fakes::kSp, .type = fakes::kRegs, .signal = true};
  table.add(kText + 0x200, with_regs ? regs : fakes::call_frame(48));
  fakes::RawOrc by_frame{.sp_offset = 16,
                         .bp_offset = -16,
                         .sp_reg = fakes::kBp,
                         .bp_reg = fakes::kPrevSp,
                         .type = fakes::kCall};
  table.add(kText + 0x300, by_frame);
  fakes::RawOrc end{.type = fakes::kEnd};
  table.add(kText + 0x400, end);
  table.write(memory, fakes::range(kText, 0x1'0000), kWindows[0].base, kWindows[1].base);
  const std::uint64_t sp = kStack + 0x3000;
  std::uint64_t at = sp;
  for (const auto& [size, next] : {std::pair(16, 0x110), {32, 0x210}, {48, 0x310}, {16, 0x410}}) {
    memory.put(GuestVirtAddr(at + static_cast<std::uint64_t>(size) - 8),
               kText + static_cast<std::uint64_t>(next));
    at += static_cast<std::uint64_t>(size);
  }
  Output output;
  output.put(shape).put<std::uint16_t>(5).put<std::uint8_t>(0);
  output.put<std::uint16_t>(0x10).put<std::uint16_t>(0x3000).put<std::uint16_t>(0x3100);
  output.put<std::uint16_t>(0x3000).put<std::uint16_t>(0x3000);
  output.put<std::uint64_t>(0).put<std::uint64_t>(0);
  put_memory(output, kWindows, memory);
  return output.take();
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(0, false), seed(2, false), seed(0, true), seed(1, false), seed(4, false)};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
