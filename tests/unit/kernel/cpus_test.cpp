// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/cpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using testing::FakeSymbols;
using testing::FakeTypes;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::SparseVirtualMemory;

VirtRange range(std::uint64_t start, std::uint64_t size) {
  return VirtRange::make(GuestVirtAddr(start), size).value();
}

/// Three CPU numbers, of which 1 is not possible and 2 is not online.
class CpusTest : public ::testing::Test {
 protected:
  CpusTest() {
    layout.per_cpu_offset = GuestVirtAddr(0x1000);
    layout.nr_cpu_ids = GuestVirtAddr(0x2000);
    layout.online_mask = GuestVirtAddr(0x2100);
    layout.possible_mask = GuestVirtAddr(0x2200);
    layout.runqueues = 0x100;
    layout.rq_curr = 0x10;
    layout.rq_idle = 0x18;
    layout.irq_stack_ptr = 0x300;
    layout.irq_stack_size = 0x4000;
    layout.exception_stacks_ptr = 0x308;
    layout.exception_stacks = {{0x1000, 0x2000}, {0x4000, 0x2000}};
    layout.entry_stack_below = 0x6000;
    layout.entry_stack_size = 0x1000;
    memory.put(layout.nr_cpu_ids, std::uint32_t{3});
    memory.put(layout.online_mask, std::uint64_t{0b1001});  // number 3 is beyond nr_cpu_ids
    memory.put(layout.possible_mask, std::uint64_t{0b1101});
    for (std::uint64_t cpu = 0; cpu < 3; ++cpu) {
      const std::uint64_t area = 0x100000 * (cpu + 1);
      memory.put(GuestVirtAddr(0x1000 + cpu * 8), area);
      memory.put(GuestVirtAddr(area + 0x110), 0xc0000 + cpu);
      memory.put(GuestVirtAddr(area + 0x118), 0x1d1e0000 + cpu);
      memory.put(GuestVirtAddr(area + 0x300), 0x80003ff8 + 0x10000 * cpu);
      memory.put(GuestVirtAddr(area + 0x308), 0x90008000 + 0x100000 * cpu);
    }
  }

  SparseVirtualMemory memory;
  CpuLayout layout;
};

TEST_F(CpusTest, ListsPossibleCpusWithWhatTheyRun) {
  const auto cpus = read_cpus(memory, layout);
  ASSERT_TRUE(cpus.has_value()) << cpus.error().what;
  ASSERT_THAT(*cpus, SizeIs(2));
  EXPECT_EQ((*cpus)[0].number, 0U);
  EXPECT_TRUE((*cpus)[0].online);
  EXPECT_EQ((*cpus)[1].number, 2U);
  EXPECT_FALSE((*cpus)[1].online);
  EXPECT_EQ((*cpus)[1].per_cpu, GuestVirtAddr(0x300000));
  EXPECT_EQ((*cpus)[1].current, GuestVirtAddr(0xc0002));
  EXPECT_EQ((*cpus)[1].idle, GuestVirtAddr(0x1d1e0002));
}

TEST_F(CpusTest, KnowsTheStacksOfEachCpu) {
  const auto cpus = read_cpus(memory, layout);
  ASSERT_TRUE(cpus.has_value());
  EXPECT_THAT((*cpus)[0].irq_stacks, ElementsAre(range(0x80000000, 0x4000)));
  EXPECT_THAT((*cpus)[0].exception_stacks,
              ElementsAre(range(0x90009000, 0x2000), range(0x9000c000, 0x2000)));
  EXPECT_THAT((*cpus)[0].entry_stacks, ElementsAre(range(0x90002000, 0x1000)));
}

TEST_F(CpusTest, LeavesOutStacksThatAreNotSetUpOrCannotBe) {
  memory.put(GuestVirtAddr(0x100300), std::uint64_t{0x10});                // too low for its size
  memory.put(GuestVirtAddr(0x100308), std::uint64_t{0});                   // none
  memory.put(GuestVirtAddr(0x300300), std::uint64_t{0});                   // none
  memory.put(GuestVirtAddr(0x300308), std::uint64_t{0xffffffffffffe000});  // past 64 bits
  const auto cpus = read_cpus(memory, layout);
  ASSERT_TRUE(cpus.has_value());
  for (const Cpu& cpu : *cpus) {
    EXPECT_THAT(cpu.irq_stacks, IsEmpty());
    EXPECT_THAT(cpu.exception_stacks, IsEmpty());
  }
  EXPECT_THAT((*cpus)[0].entry_stacks, IsEmpty());
}

TEST_F(CpusTest, RefusesMoreCpusThanAnyKernelHas) {
  memory.put(layout.nr_cpu_ids, kMaxCpus + 1);
  const auto cpus = read_cpus(memory, layout);
  ASSERT_FALSE(cpus.has_value());
  EXPECT_EQ(cpus.error().code, Errc::corrupt);
}

class CpuProbe : public ::testing::Test {
 protected:
  CpuProbe() {
    symbols.addresses = {{"__per_cpu_offset", 1},
                         {"nr_cpu_ids", 2},
                         {"__cpu_online_mask", 3},
                         {"__cpu_possible_mask", 4},
                         {"runqueues", 5}};
    types.put("rq.curr", 6);
    types.put("rq.idle", 7);
  }

  FakeTypes types;
  FakeSymbols symbols;
};

TEST_F(CpuProbe, FindsTheInterruptStackInsideOfPcpuHot) {
  symbols.addresses["pcpu_hot"] = 0x35000;
  types.put("pcpu_hot.hardirq_stack_ptr", 32);
  const auto layout = CpuLayout::probe(types, symbols);
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->irq_stack_ptr, 0x35020U);
  EXPECT_EQ(layout->irq_stack_size, 16384U);
}

TEST_F(CpuProbe, FindsTheEntryStackBelowTheExceptionStacks) {
  symbols.addresses["cea_exception_stacks"] = 0x212c8;
  types.put("cea_exception_stacks.NMI_stack", 0x4000, 0x2000);
  types.put("cpu_entry_area.estacks", 28672, 77824);
  types.put("cpu_entry_area.entry_stack_page.stack", 4096, 4096);
  const auto layout = CpuLayout::probe(types, symbols);
  ASSERT_TRUE(layout.has_value());
  EXPECT_THAT(layout->exception_stacks, ElementsAre(std::pair(0x4000U, 0x2000U)));
  EXPECT_EQ(layout->entry_stack_below, 24576U);
  EXPECT_EQ(layout->entry_stack_size, 4096U);
}

}  // namespace
}  // namespace vpatch::introspect
