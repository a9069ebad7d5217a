// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "fake_orc.h"

namespace vpatch::introspect {
namespace {

using namespace testing;

constexpr std::uint64_t kText = 0xffffffff81000000;
constexpr std::uint64_t kTextSize = 0x100000;
constexpr std::uint64_t kIps = 0xffffffff82000000;
constexpr std::uint64_t kEntries = 0xffffffff83000000;
constexpr std::uint32_t kMany = 10'000;  // fills several blocks, the last one in part

/// The sp offset of the entry for an address; nothing when there is none.
std::optional<int> found(const OrcTables& tables, std::uint64_t ip) {
  const auto entry = tables.find(GuestVirtAddr(ip));
  return entry ? std::optional<int>(entry->sp_offset) : std::nullopt;
}

class OrcTablesTest : public ::testing::Test {
 protected:
  OrcTableLocation write(const OrcBuilder& table) {
    return table.write(memory, range(kText, kTextSize), kIps, kEntries);
  }

  /// `count` entries, each 16 bytes after the one before, with its number for its sp offset.
  OrcTableLocation write_many(std::uint32_t count) {
    OrcBuilder table;
    for (std::uint32_t at = 0; at < count; ++at) {
      table.add(kText + std::uint64_t{at} * 16, call_frame(static_cast<std::int16_t>(at)));
    }
    return write(table);
  }

  OrcTables tables(std::vector<OrcTableLocation> locations) {
    return {memory, new_format(), std::move(locations)};
  }

  SparseVirtualMemory memory;
};

TEST_F(OrcTablesTest, FindsTheLastEntryAtOrBeforeAnAddress) {
  OrcBuilder table;
  table.add(kText + 0x10, call_frame(8));
  table.add(kText + 0x20, call_frame(16));
  const auto orc = tables({write(table)});
  EXPECT_EQ(found(orc, kText + 0x10), 8);
  EXPECT_EQ(found(orc, kText + 0x1f), 8);
  EXPECT_EQ(found(orc, kText + 0x20), 16);
  EXPECT_EQ(found(orc, kText + kTextSize - 1), 16);
}

TEST_F(OrcTablesTest, HasNoEntryForTextBeforeTheFirst) {
  OrcBuilder table;
  table.add(kText + 0x10, call_frame(8));
  const auto orc = tables({write(table)});
  EXPECT_EQ(found(orc, kText + 0xf), std::nullopt);
  EXPECT_TRUE(orc.covers(GuestVirtAddr(kText + 0xf)));
}

TEST_F(OrcTablesTest, HasNoEntryOutsideOfItsText) {
  const auto orc = tables({write_many(4)});
  EXPECT_EQ(found(orc, kText + kTextSize), std::nullopt);
  EXPECT_FALSE(orc.covers(GuestVirtAddr(kText + kTextSize)));
  EXPECT_FALSE(orc.covers(GuestVirtAddr(kText - 1)));
}

TEST_F(OrcTablesTest, FindsTheEntriesOfALargeTableAtEveryBlocksEdge) {
  const auto orc = tables({write_many(kMany)});
  std::vector<std::uint32_t> numbers{0, 6143, 6144, kMany - 1};
  for (std::uint32_t edge = 2; edge < kMany; edge *= 2) {
    numbers.insert(numbers.end(), {edge - 1, edge, edge + 1});
  }
  for (const std::uint32_t at : numbers) {
    EXPECT_EQ(found(orc, kText + std::uint64_t{at} * 16), at);
    EXPECT_EQ(found(orc, kText + std::uint64_t{at} * 16 + 15), at);
  }
}

TEST_F(OrcTablesTest, PrefersTheLastOfManyForOneAddressAcrossBlocks) {
  OrcBuilder table;
  for (int at = 0; at < 9000; ++at) {
    table.add(kText + 0x40, call_frame(static_cast<std::int16_t>(at)));
  }
  table.add(kText + 0x41, call_frame(1));
  const auto orc = tables({write(table)});
  EXPECT_EQ(found(orc, kText + 0x40), 8999);
}

TEST_F(OrcTablesTest, TellsTablesApartByTheirText) {
  OrcBuilder module;
  module.add(0xffffffffc0000000, call_frame(32));
  auto second = module.write(memory, range(0xffffffffc0000000, 0x1000), 0xffffffffc0010000,
                             0xffffffffc0020000);
  const auto orc = tables({second, write_many(4)});
  EXPECT_EQ(found(orc, 0xffffffffc0000fff), 32);
  EXPECT_EQ(found(orc, kText + 0x10), 1);
}

TEST_F(OrcTablesTest, LetsTheEarlierOfTwoOverlappingTablesCount) {
  OrcBuilder module;
  module.add(kText, call_frame(32));
  auto second =
      module.write(memory, range(kText + 0x10, kTextSize), 0xffffffffc0010000, 0xffffffffc0020000);
  const auto orc = tables({write_many(4), second});
  EXPECT_EQ(found(orc, kText + 0x10), 1);
  EXPECT_FALSE(orc.covers(GuestVirtAddr(kText + kTextSize)));
}

TEST_F(OrcTablesTest, ReadsNothingTwiceForAnAddressSeenBefore) {
  const auto orc = tables({write_many(kMany)});
  EXPECT_EQ(found(orc, kText + 0x100), 16);
  const auto reads = memory.reads;
  EXPECT_EQ(found(orc, kText + 0x100), 16);
  EXPECT_EQ(memory.reads, reads);
}

TEST_F(OrcTablesTest, HasNoEntryInABlockOutOfOrder) {
  auto location = write_many(kMany);
  memory.put(GuestVirtAddr(kIps + 5000 * 4), std::int32_t{0});
  const auto orc = tables({location});
  EXPECT_EQ(found(orc, kText + 5001 * 16), std::nullopt);
  EXPECT_EQ(found(orc, kText + 16), 1);
}

TEST_F(OrcTablesTest, HasNoEntriesWhenItsIndexIsOutOfOrder) {
  auto location = write_many(kMany);
  memory.put(GuestVirtAddr(kIps), std::int32_t{0});
  const auto orc = tables({location});
  EXPECT_EQ(found(orc, kText + 9000 * 16), std::nullopt);
}

TEST_F(OrcTablesTest, StopsTryingToReadATableThatCannotBeRead) {
  auto location = write_many(4);
  memory.fail_at(location.ips);
  const auto orc = tables({location});
  for (int attempt = 0; attempt < 100; ++attempt) {
    EXPECT_EQ(found(orc, kText), std::nullopt);
  }
  EXPECT_LT(memory.reads, 20);
}

TEST_F(OrcTablesTest, FindsAnEntryOnceItCanBeRead) {
  auto location = write_many(4);
  memory.fail_at(location.entries);
  const auto orc = tables({location});
  EXPECT_EQ(found(orc, kText + 16), std::nullopt);
  memory.heal();
  EXPECT_EQ(found(orc, kText + 16), 1);
}

TEST_F(OrcTablesTest, BelievesNoTableThatIsTooLarge) {
  auto location = write_many(4);
  location.count = kMaxOrcEntries + 1;
  const auto orc = tables({location});
  EXPECT_EQ(found(orc, kText), std::nullopt);
  EXPECT_EQ(memory.reads, 0);
}

TEST_F(OrcTablesTest, BelievesNoMoreEntriesOfAllTablesTogether) {
  auto location = write_many(4);
  OrcTableLocation huge{range(0x1000, 0x1000), GuestVirtAddr(0x10000), GuestVirtAddr(0x20000000),
                        kMaxOrcEntries};
  const auto orc = tables({huge, location});
  EXPECT_EQ(found(orc, kText), std::nullopt);
}

TEST_F(OrcTablesTest, BelievesNoTablePastTheEndOfMemory) {
  auto location = write_many(4);
  location.entries = GuestVirtAddr(~std::uint64_t{0} - 8);  // the first still fits
  memory.put(location.entries, call_frame(8).packed_as_6_12());
  const auto orc = tables({location});
  EXPECT_EQ(found(orc, kText), std::nullopt);
}

}  // namespace
}  // namespace vpatch::introspect
