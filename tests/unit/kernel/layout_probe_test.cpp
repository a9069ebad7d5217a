// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/layout_probe.h"

#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

using testing::FakeSymbols;
using testing::FakeTypes;

TEST(LayoutProbe, KeepsTheFirstErrorAndAnswersZeroFromThenOn) {
  FakeTypes types;
  types.put("a.b", 24);
  const FakeSymbols symbols;
  LayoutProbe probe(types, symbols);
  EXPECT_EQ(probe.offset("a", "b"), 24U);
  EXPECT_EQ(probe.offset("a", "missing"), 0U);
  EXPECT_EQ(probe.offset("a", "b"), 0U);
  EXPECT_EQ(probe.symbol("also missing"), GuestVirtAddr());
  const auto done = std::move(probe).finish(1);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().what, "no a.missing");
}

TEST(LayoutProbe, TakesTheAbsenceOfWhatIsOptional) {
  const FakeTypes types;
  const FakeSymbols symbols;
  LayoutProbe probe(types, symbols);
  EXPECT_FALSE(probe.optional_offset("a", "b"));
  EXPECT_FALSE(probe.optional_symbol("c"));
  EXPECT_FALSE(probe.optional_size_of("a"));
  EXPECT_FALSE(probe.optional_enumerator("D"));
  EXPECT_TRUE(std::move(probe).finish(1).has_value());
}

TEST(LayoutProbe, RefusesAMemberFarOutsideOfAnyStructure) {
  FakeTypes types;
  types.put("a.b", kMaxMemberOffset + 1);
  const FakeSymbols symbols;
  LayoutProbe probe(types, symbols);
  EXPECT_FALSE(probe.optional_offset("a", "b"));
  const auto done = std::move(probe).finish(1);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::corrupt);
}

}  // namespace
}  // namespace vpatch::introspect
