// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/page_scan.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;

PhysRange first(std::uint64_t bytes) {
  return PhysRange::between(GuestPhysAddr(0), GuestPhysAddr(bytes));
}

struct Seen {
  std::vector<std::uint64_t> pages;
  Result<ScanGaps> gaps;
};

Seen scan(const FakeMemory& memory, PhysRange within) {
  Seen seen;
  seen.gaps = scan_pages(memory, within, {}, [&](GuestPhysAddr address, auto) {
    seen.pages.push_back(address.value());
  });
  return seen;
}

TEST(PageScan, ShowsPopulatedPagesOnceAndInOrder) {
  FakeMemory memory({{0, 64 * kMiB}});
  memory.write(0x9000, "b");
  memory.write(0x3000, "a");
  memory.write(50 * kMiB, "c");
  EXPECT_THAT(scan(memory, first(64 * kMiB)).pages, ElementsAre(0x3000, 0x9000, 50 * kMiB));
}

TEST(PageScan, ShowsThePartThatIsAskedFor) {
  FakeMemory memory({{0, kMiB}});
  memory.write(0x3000 + 4088, "the end.");
  std::string shown;
  const auto gaps = scan_pages(memory, first(kMiB), {4088, 8}, [&](GuestPhysAddr page, auto bytes) {
    EXPECT_EQ(page, GuestPhysAddr(0x3000));
    shown.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  EXPECT_TRUE(gaps);
  EXPECT_EQ(shown, "the end.");
}

TEST(PageScan, ReadsNoHole) {
  FakeMemory memory({{0, 64 * kMiB}});
  memory.write(0x3000, "a");
  memory.write(50 * kMiB, "c");
  scan(memory, first(64 * kMiB));
  for (const auto& [page, times] : memory.touched()) {
    EXPECT_TRUE(memory.populated(page)) << page;
  }
}

TEST(PageScan, ShowsEveryPageOfARunLongerThanOneRead) {
  FakeMemory memory({{0, 64 * kMiB}});
  constexpr std::uint64_t kPages = 1000;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    memory.write(kMiB + page * kPageSize, "x");
  }
  const auto seen = scan(memory, first(64 * kMiB));
  EXPECT_EQ(seen.pages.size(), kPages);
  EXPECT_EQ(seen.pages.back(), kMiB + (kPages - 1) * kPageSize);
}

TEST(PageScan, StaysWithinItsRange) {
  FakeMemory memory({{0, 64 * kMiB}});
  memory.write(0x3000, std::string(0x3000, 'x'));
  const auto within = PhysRange::between(GuestPhysAddr(0x4000), GuestPhysAddr(0x5000));
  EXPECT_THAT(scan(memory, within).pages, ElementsAre(0x4000));
}

TEST(PageScan, CrossesFromRegionToRegion) {
  FakeMemory memory({{0, kMiB}, {4 * kGiB, kMiB}});
  memory.write(kMiB - kPageSize, "low");
  memory.write(4 * kGiB, "high");
  EXPECT_THAT(scan(memory, first(5 * kGiB)).pages, ElementsAre(kMiB - kPageSize, 4 * kGiB));
}

TEST(PageScan, PassesOverAnUnreadablePageAndCountsIt) {
  FakeMemory memory({{0, kMiB}});
  memory.write(0x3000, std::string(0x3000, 'x'));
  memory.fault(0x4000, Errc::io);
  const auto seen = scan(memory, first(kMiB));
  EXPECT_THAT(seen.pages, ElementsAre(0x3000, 0x5000));
  ASSERT_TRUE(seen.gaps);
  EXPECT_EQ(seen.gaps->unreadable_pages, 1U);
}

TEST(PageScan, EndsAtARefusal) {
  FakeMemory memory({{0, kMiB}});
  memory.write(0x3000, "x");
  memory.fault(0x3000, Errc::permission);
  const auto seen = scan(memory, first(kMiB));
  ASSERT_FALSE(seen.gaps);
  EXPECT_EQ(seen.gaps.error().code, Errc::permission);
}

TEST(PageScan, EndsWhenTheWalkFails) {
  FakeMemory memory({{0, kMiB}});
  memory.fault_walk(Errc::io);
  EXPECT_FALSE(scan(memory, first(kMiB)).gaps);
}

}  // namespace
}  // namespace vpatch::introspect
