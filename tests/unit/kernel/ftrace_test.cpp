// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/ftrace.h"

#include <gtest/gtest.h>

#include "tests/unit/fakes/sparse_virtual_memory.h"
#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

constexpr GuestVirtAddr kEnabled{0x1000}, kDisabled{0x1004};

class FtraceTest : public ::testing::Test {
 protected:
  Result<FtraceState> read(std::int32_t enabled, std::int32_t disabled) {
    testing::SparseVirtualMemory memory;
    memory.put(kEnabled, enabled);
    memory.put(kDisabled, disabled);
    return read_ftrace(memory, layout);
  }

  FtraceLayout layout{.enabled = kEnabled, .disabled = kDisabled};
};

TEST_F(FtraceTest, IsOn) {
  EXPECT_EQ(read(1, 0), FtraceState::on);
}

TEST_F(FtraceTest, IsOffByTheSysctl) {
  EXPECT_EQ(read(0, 0), FtraceState::off);
}

TEST_F(FtraceTest, IsDeadWhateverTheSysctlSays) {
  EXPECT_EQ(read(1, 1), FtraceState::dead);
}

TEST_F(FtraceTest, IsKnownWithoutTheSecondWord) {
  layout.disabled.reset();
  EXPECT_EQ(read(0, 1), FtraceState::off);
}

TEST_F(FtraceTest, FailsWhereItCannotBeRead) {
  EXPECT_FALSE(read_ftrace(testing::SparseVirtualMemory(), layout).has_value());
}

TEST_F(FtraceTest, NeedsItsFirstWord) {
  testing::FakeTypes types;
  testing::FakeSymbols symbols;
  EXPECT_FALSE(FtraceLayout::probe(types, symbols).has_value());
  symbols.addresses["ftrace_enabled"] = 0x1000;
  const auto found = FtraceLayout::probe(types, symbols);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->enabled, kEnabled);
  EXPECT_FALSE(found->disabled.has_value());
}

}  // namespace
}  // namespace vpatch::introspect
