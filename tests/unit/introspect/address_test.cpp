// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/address.h"

#include <cstdint>
#include <limits>
#include <type_traits>

#include <gtest/gtest.h>

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

static_assert(!std::is_convertible_v<std::uint64_t, GuestPhysAddr>);
static_assert(!std::is_convertible_v<GuestPhysAddr, std::uint64_t>);
static_assert(!std::is_constructible_v<GuestPhysAddr, GuestVirtAddr>);
static_assert(!std::is_constructible_v<GuestVirtAddr, GuestPhysAddr>);

VirtRange range_of(std::uint64_t start, std::uint64_t size) {
  return VirtRange::between(GuestVirtAddr(start), GuestVirtAddr(start + size));
}

TEST(Address, PlusReachesTheLastByte) {
  EXPECT_EQ(GuestPhysAddr(kMax - 5).plus(5), GuestPhysAddr(kMax));
}

TEST(Address, PlusRefusesToWrap) {
  EXPECT_EQ(GuestPhysAddr(kMax - 5).plus(6), std::nullopt);
}

TEST(Address, OffsetFromRefusesAnAddressBeforeTheBase) {
  EXPECT_EQ(GuestVirtAddr(9).offset_from(GuestVirtAddr(10)), std::nullopt);
}

TEST(AddressRange, RefusesAnEndPast64Bits) {
  EXPECT_EQ(PhysRange::make(GuestPhysAddr(kMax - 4095), 4096), std::nullopt);
}

TEST(AddressRange, FitsUpToItsEnd) {
  const auto range = range_of(0x1000, 0x100);
  EXPECT_TRUE(range.fits(0xf0, 0x10));
  EXPECT_FALSE(range.fits(0xf1, 0x10));
}

TEST(AddressRange, FitsNothingPastItsEndEvenWhenTheSumWraps) {
  const auto range = range_of(0x1000, 0x100);
  EXPECT_FALSE(range.fits(kMax, 2));
  EXPECT_FALSE(range.fits(2, kMax));
}

TEST(AddressRange, HoldsNoAddressBeforeItsStart) {
  const auto range = range_of(0x1000, 0x100);
  EXPECT_FALSE(range.holds(GuestVirtAddr(0xfff), 1));
}

TEST(AddressRange, NeighboursDoNotOverlap) {
  const auto low = range_of(0, 0x1000);
  const auto high = range_of(0x1000, 0x1000);
  EXPECT_FALSE(low.overlaps(high));
}

TEST(AddressRange, SharingOneByteIsOverlap) {
  const auto low = range_of(0, 0x1001);
  const auto high = range_of(0x1000, 0x1000);
  EXPECT_TRUE(low.overlaps(high));
  EXPECT_TRUE(high.overlaps(low));
}

}  // namespace
}  // namespace vpatch::introspect
