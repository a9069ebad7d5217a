// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/address_space.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80, kPat = 0x1000;
constexpr std::uint64_t kNoExecute = std::uint64_t{1} << 63U;
constexpr std::uint64_t kRoot = 0x10000;
constexpr std::uint64_t kNextTables = 0x11000;

/// Guest memory that counts how it is asked.
class CountingMemory final : public GuestMemory {
 public:
  CountingMemory() : fake({{0, 64 * kMiB}}) {}

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override {
    ++reads;
    return fake.read(address, into);
  }
  void read_many(std::span<PhysRead> all) const override {
    ++batches;
    fake.read_many(all);
  }
  std::span<const PhysRange> regions() const override { return fake.regions(); }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override {
    return fake.next_populated(from);
  }

  FakeMemory fake;
  mutable int reads = 0, batches = 0;
};

/// A guest whose page tables are built entry by entry; tables are made as they are needed.
class Tables : public testing::Test {
 protected:
  /// Maps `virt` to `phys` with an entry of `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB); `upper` goes
  /// into the entries above.
  void map(std::uint64_t virt, std::uint64_t phys, int level = 1, std::uint64_t flags = kWritable,
           std::uint64_t upper = kWritable | kUser) {
    std::uint64_t table = kRoot;
    for (int at = levels; at > level; --at) {
      const std::uint64_t place = table + index(virt, at) * 8;
      if (entry(place) == 0) {
        set(place, next_table_ | kPresent | upper);
        next_table_ += kPageSize;
      }
      table = entry(place) & 0x000ffffffffff000;
    }
    set(table + index(virt, level) * 8, phys | flags | kPresent | (level > 1 ? kLarge : 0));
  }

  static std::uint64_t index(std::uint64_t virt, int level) {
    return virt >> (12 + 9 * (level - 1)) & 511U;
  }
  std::uint64_t entry(std::uint64_t place) const {
    std::uint64_t value = 0;
    EXPECT_TRUE(
        memory.fake.read(GuestPhysAddr(place), std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  void set(std::uint64_t place, std::uint64_t value) { memory.fake.write_word(place, value); }

  AddressSpace space() const {
    return {memory, GuestPhysAddr(kRoot), levels == 5 ? Paging::five_level : Paging::four_level};
  }
  Result<Translation> translate(std::uint64_t virt) const {
    return space().translate(GuestVirtAddr(virt));
  }
  Errc refusal(std::uint64_t virt) const {
    const auto found = translate(virt);
    EXPECT_FALSE(found);
    return found ? Errc{} : found.error().code;
  }

  CountingMemory memory;
  int levels = 4;

 private:
  std::uint64_t next_table_ = kNextTables;
};

std::string text_at(const VirtualMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestVirtAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(to_string(done.error().code));
}

TEST_F(Tables, FindASmallPage) {
  map(0xffffc90000123000, 0x345000);
  const auto found = translate(0xffffc90000123abc);
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->phys, GuestPhysAddr(0x345abc));
  EXPECT_EQ(found->page_size, 4096U);
}

TEST_F(Tables, FindAPlaceInsideOfATwoMegabytePage) {
  map(0xffffffff81000000, 0x1400000, 2);
  const auto found = translate(0xffffffff811fffff);
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->phys, GuestPhysAddr(0x15fffff));
  EXPECT_EQ(found->page_size, 2 * kMiB);
}

TEST_F(Tables, FindAPlaceInsideOfAGigabytePage) {
  map(0xffff888000000000, 3 * kGiB, 3);
  const auto found = translate(0xffff888012345678);
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->phys, GuestPhysAddr(3 * kGiB + 0x12345678));
  EXPECT_EQ(found->page_size, kGiB);
}

TEST_F(Tables, LeaveThePatBitOutOfALargePagesAddress) {
  map(0xffffffff81000000, 0x1400000, 2, kPat);
  EXPECT_EQ(translate(0xffffffff81000000)->phys, GuestPhysAddr(0x1400000));
}

TEST_F(Tables, OfFiveLevelsFindWhatFourCannotAddress) {
  levels = 5;
  map(0xff11000000123000, 0x345000);
  const auto found = translate(0xff11000000123004);
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->phys, GuestPhysAddr(0x345004));
}

TEST_F(Tables, RefuseAnAddressThatIsNotCanonical) {
  map(0, 0x345000);
  EXPECT_EQ(refusal(0x0000800000000000), Errc::out_of_range);
  EXPECT_EQ(refusal(0xffff7fffffffffff), Errc::out_of_range);
  levels = 5;
  EXPECT_EQ(refusal(0x0100000000000000), Errc::out_of_range);
}

TEST_F(Tables, RefuseAnEntryThatIsNotPresentAtAnyLevel) {
  map(0x1000, 0x345000);
  EXPECT_EQ(refusal(0x2000), Errc::out_of_range);
  EXPECT_EQ(refusal(2 * kMiB), Errc::out_of_range);
  EXPECT_EQ(refusal(kGiB), Errc::out_of_range);
  EXPECT_EQ(refusal(512 * kGiB), Errc::out_of_range);
}

TEST_F(Tables, AddUpWhatEachLevelAllows) {
  map(0x1000, 0x345000, 1, kUser, kWritable | kUser);
  map(kGiB, 0x346000, 1, kWritable | kUser, kUser);
  map(2 * kGiB, 0x347000, 1, kWritable, kWritable | kUser | kNoExecute);
  EXPECT_FALSE(translate(0x1000)->writable);
  EXPECT_TRUE(translate(0x1000)->user);
  EXPECT_TRUE(translate(0x1000)->executable);
  EXPECT_FALSE(translate(kGiB)->writable);
  EXPECT_TRUE(translate(2 * kGiB)->writable);
  EXPECT_FALSE(translate(2 * kGiB)->user);
  EXPECT_FALSE(translate(2 * kGiB)->executable);
}

TEST_F(Tables, SayCorruptForALargePageAtALevelThatHasNone) {
  set(kRoot, 0x200000 | kPresent | kLarge);
  EXPECT_EQ(refusal(0x1000), Errc::corrupt);
}

TEST_F(Tables, SayCorruptForALargePageThatIsNotAligned) {
  map(0x200000, 0x1402000, 2);
  map(kGiB, 0x200000, 3);
  EXPECT_EQ(refusal(0x200000), Errc::corrupt);
  EXPECT_EQ(refusal(kGiB), Errc::corrupt);
}

TEST_F(Tables, RefuseATableOutsideOfRam) {
  set(kRoot, 0x000ffffffffff000 | kPresent);
  EXPECT_EQ(refusal(0x1000), Errc::out_of_range);
}

TEST_F(Tables, EndWhenATableIsItsOwnNext) {
  set(kRoot + 511 * 8, kRoot | kPresent);
  const auto found = translate(0xffffffffffffffff);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->phys, GuestPhysAddr(kRoot + 0xfff));
}

TEST_F(Tables, AreReadOnceUntilForgotten) {
  map(0x1000, 0x345000);
  auto used = space();
  ASSERT_TRUE(used.translate(GuestVirtAddr(0x1000)));
  EXPECT_EQ(memory.reads, 4);
  map(0x1000, 0x777000);
  EXPECT_EQ(used.translate(GuestVirtAddr(0x1000))->phys, GuestPhysAddr(0x345000));
  EXPECT_EQ(memory.reads, 4);
  used.forget();
  EXPECT_EQ(used.translate(GuestVirtAddr(0x1000))->phys, GuestPhysAddr(0x777000));
}

TEST_F(Tables, KeepNothingOfARegionThatAnotherReplaces) {
  // Regions of 2 MiB that are 256 apart share a place in the store.
  map(0x1000, 0x345000);
  map(0x1000 + 512 * kMiB, 0x777000);
  const auto used = space();
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(used.translate(GuestVirtAddr(0x1000))->phys, GuestPhysAddr(0x345000));
    EXPECT_EQ(used.translate(GuestVirtAddr(0x1000 + 512 * kMiB))->phys, GuestPhysAddr(0x777000));
  }
}

TEST_F(Tables, AreStillRightWhenThereAreMoreThanTheStoreHolds) {
  const auto used = space();
  std::vector<std::uint64_t> places;
  for (std::uint64_t at = 0; at < 5000; ++at) {
    const std::uint64_t virt = at * 2 * kMiB;
    map(virt, 0x400000 + at * kPageSize);
    places.push_back(virt);
  }
  for (std::uint64_t at = 0; at < places.size(); ++at) {
    const auto found = used.translate(GuestVirtAddr(places[at]));
    ASSERT_TRUE(found) << found.error().what;
    ASSERT_EQ(found->phys, GuestPhysAddr(0x400000 + at * kPageSize));
  }
}

TEST_F(Tables, ReadAcrossPagesThatLieApart) {
  map(0x1000, 0x345000);
  map(0x2000, 0x123000);
  memory.fake.write(0x345ffe, "ab");
  memory.fake.write(0x123000, "cd");
  EXPECT_EQ(text_at(space(), 0x1ffe, 4), "abcd");
}

TEST_F(Tables, RefuseAReadOfWhichOnePageIsNotMapped) {
  map(0x1000, 0x345000);
  map(0x3000, 0x346000);
  EXPECT_EQ(text_at(space(), 0x1ff0, 0x1100), "out-of-range");
}

TEST_F(Tables, RefuseAReadOfAPageOutsideOfRam) {
  map(0x1000, kGiB);
  EXPECT_EQ(text_at(space(), 0x1000, 4), "out-of-range");
}

TEST_F(Tables, ReadTheVeryLastByte) {
  map(0xfffffffffffff000, 0x345000);
  memory.fake.write(0x345fff, "z");
  EXPECT_EQ(text_at(space(), std::numeric_limits<std::uint64_t>::max(), 1), "z");
}

TEST_F(Tables, RefuseAReadThatWrapsPast64Bits) {
  map(0xfffffffffffff000, 0x345000);
  map(0, 0x346000);
  EXPECT_EQ(text_at(space(), std::numeric_limits<std::uint64_t>::max(), 2), "out-of-range");
}

TEST_F(Tables, ReadNothingAnywhere) {
  EXPECT_TRUE(space().read(GuestVirtAddr(0x8000000000000000), {}));
}

TEST_F(Tables, ReadManyAtOnceInOneBatchALevel) {
  std::vector<std::uint64_t> values(300);
  std::vector<VirtRead> reads;
  for (std::uint64_t at = 0; at < values.size(); ++at) {
    const std::uint64_t virt = 0xffffc90000000000 + at * 4 * kMiB;
    map(virt, 0x400000 + at * kPageSize);
    memory.fake.write_word(0x400000 + at * kPageSize, at + 7);
    reads.push_back(
        {GuestVirtAddr(virt), std::as_writable_bytes(std::span(values).subspan(at, 1))});
  }
  const auto used = space();
  used.read_many(reads);
  EXPECT_EQ(memory.batches, 5);  // four levels and the data
  EXPECT_EQ(memory.reads, 0);
  for (std::uint64_t at = 0; at < values.size(); ++at) {
    EXPECT_TRUE(reads[at].done);
    EXPECT_EQ(values[at], at + 7);
  }
}

TEST_F(Tables, ReadManyTellsWhichFailed) {
  map(0x1000, 0x345000);
  map(0x2000, kGiB);
  std::array<std::array<std::byte, 8>, 5> into{};
  std::array<VirtRead, 5> reads{
      VirtRead{GuestVirtAddr(0x1000), into[0]}, VirtRead{GuestVirtAddr(0x2000), into[1]},
      VirtRead{GuestVirtAddr(0x3000), into[2]}, VirtRead{GuestVirtAddr(0x1ffc), into[3]},
      VirtRead{GuestVirtAddr(0x1008), into[4]}};
  space().read_many(reads);
  EXPECT_TRUE(reads[0].done);
  EXPECT_FALSE(reads[1].done);  // outside of RAM
  EXPECT_FALSE(reads[2].done);  // not mapped
  EXPECT_FALSE(reads[3].done);  // its second half lies outside of RAM
  EXPECT_TRUE(reads[4].done);
}

TEST_F(Tables, ReadManySurvivesATableThatCannotBeRead) {
  map(0x1000, 0x345000);
  map(0xffffffff81000000, 0x346000);
  memory.fake.fault(kNextTables, Errc::io);
  std::array<std::array<std::byte, 8>, 2> into{};
  std::array<VirtRead, 2> reads{VirtRead{GuestVirtAddr(0x1000), into[0]},
                                VirtRead{GuestVirtAddr(0xffffffff81000000), into[1]}};
  space().read_many(reads);
  EXPECT_FALSE(reads[0].done);
  EXPECT_TRUE(reads[1].done);
}

std::string write_text(CountingMemory& memory, const AddressSpace& space, std::uint64_t address,
                       std::string_view text) {
  const auto done =
      write_mapped(memory.fake, space, GuestVirtAddr(address), std::as_bytes(std::span(text)));
  return done ? "done" : std::string(to_string(done.error().code));
}

TEST_F(Tables, LeadAWriteToItsPlace) {
  map(0xffffc90000123000, 0x345000);
  memory.fake.write(0x345ff0, std::string(16, '.'));
  EXPECT_EQ(write_text(memory, space(), 0xffffc90000123ff8, "12345678"), "done");
  EXPECT_EQ(text_at(space(), 0xffffc90000123ff0, 16), "........12345678");
}

TEST_F(Tables, RefuseAWriteAcrossTheEndOfAPage) {
  map(0xffffc90000123000, 0x345000);
  map(0xffffc90000124000, 0x346000);
  memory.fake.write(0x345ff8, std::string(16, '.'));
  EXPECT_EQ(write_text(memory, space(), 0xffffc90000123ff9, "12345678"), "out-of-range");
  EXPECT_EQ(text_at(space(), 0xffffc90000123ff8, 16), std::string(16, '.'));
}

TEST_F(Tables, RefuseAWriteThatAnyLevelForbids) {
  map(0xffffc90000123000, 0x345000, 1, 0);
  map(0xffff888000000000, 0x400000, 2, kWritable, kUser);
  memory.fake.write(0x345000, "....");
  memory.fake.write(0x400000, "....");
  EXPECT_EQ(write_text(memory, space(), 0xffffc90000123000, "x"), "out-of-range");
  EXPECT_EQ(write_text(memory, space(), 0xffff888000000000, "x"), "out-of-range");
  EXPECT_EQ(text_at(space(), 0xffffc90000123000, 4), "....");
  EXPECT_EQ(text_at(space(), 0xffff888000000000, 4), "....");
}

TEST_F(Tables, RefuseAWriteToWhatIsNotMappedOrNoPageIsBehind) {
  map(0xffffc90000123000, 0x345000);
  EXPECT_EQ(write_text(memory, space(), 0xffffc90000123000, "x"), "out-of-range");
  EXPECT_EQ(write_text(memory, space(), 0xffffc90000124000, "x"), "out-of-range");
}

}  // namespace
}  // namespace vpatch::introspect
