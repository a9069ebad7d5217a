// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/health.h"

#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

using testing::FakeSymbols;
using testing::FakeTypes;
using testing::SparseVirtualMemory;

class HealthTest : public ::testing::Test {
 protected:
  HealthTest() {
    layout.tainted_mask = GuestVirtAddr(0x1000);
    layout.timekeeper = GuestVirtAddr(0x2000);
    layout.xtime_sec = 112;
    layout.ktime_sec = 120;
    layout.offs_boot = 152;
    layout.panic_cpu = GuestVirtAddr(0x3000);
    memory.put(GuestVirtAddr(0x1000), std::uint64_t{0xb000});
    memory.put(GuestVirtAddr(0x2000 + 112), std::uint64_t{1795242835});
    memory.put(GuestVirtAddr(0x2000 + 120), std::uint64_t{68});
    memory.put(GuestVirtAddr(0x2000 + 152), std::int64_t{5'900'000'000});
    memory.put(GuestVirtAddr(0x3000), std::int32_t{-1});
  }

  SparseVirtualMemory memory;
  HealthLayout layout;
};

TEST_F(HealthTest, TellsTaintAndTimes) {
  const auto health = read_health(memory, layout);
  ASSERT_TRUE(health.has_value());
  EXPECT_EQ(health->taint, 0xb000U);
  EXPECT_EQ(health->uptime_s, 73U);
  EXPECT_EQ(health->realtime_s, 1795242835U);
  EXPECT_FALSE(health->panicked);
}

TEST_F(HealthTest, SeesAPanic) {
  memory.put(GuestVirtAddr(0x3000), std::int32_t{0});
  const auto health = read_health(memory, layout);
  ASSERT_TRUE(health.has_value());
  EXPECT_TRUE(health->panicked);
}

TEST_F(HealthTest, TellsTheTicksWhereTheKernelShowsThem) {
  EXPECT_EQ(read_health(memory, layout)->ticks, std::nullopt);
  layout.ticks = GuestVirtAddr(0x4000);
  memory.put(GuestVirtAddr(0x4000), std::uint64_t{4'294'900'000});
  EXPECT_EQ(read_health(memory, layout)->ticks, 4'294'900'000U);
}

class HealthProbe : public ::testing::Test {
 protected:
  HealthProbe() {
    symbols.addresses = {{"tainted_mask", 0x10}, {"tk_core", 0x1000}};
    types.put("timekeeper.ktime_sec", 120);
    types.put("timekeeper.xtime_sec", 112);
    types.put("timekeeper.offs_boot", 152);
    types.sizes["seqcount_raw_spinlock"] = 4;
  }

  FakeTypes types;
  FakeSymbols symbols;
};

TEST_F(HealthProbe, FindsTheTimekeeperBehindItsSequenceCounter) {
  const auto layout = HealthLayout::probe(types, symbols);
  ASSERT_TRUE(layout.has_value()) << layout.error().what;
  EXPECT_EQ(layout->timekeeper, GuestVirtAddr(0x1008));
  EXPECT_FALSE(layout->panic_cpu);
}

}  // namespace
}  // namespace vpatch::introspect
