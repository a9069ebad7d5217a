// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/kernel_log.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::MovingMemory;
using ::testing::SizeIs;
using testing::SparseVirtualMemory;

constexpr std::uint64_t kPrb = 0x1000, kRing = 0x2000, kDescs = 0x10000, kInfos = 0x20000,
                        kData = 0x30000;
constexpr std::uint64_t kCount = 8, kDataSize = 256;
constexpr std::uint64_t kIdMask = (std::uint64_t{1} << 62U) - 1;
constexpr std::uint64_t kReserved = 0, kCommitted = 1, kFinalized = 2, kReusable = 3;

LogLayout make_layout() {
  LogLayout layout;
  layout.prb = GuestVirtAddr(kPrb);
  layout.desc_ring = 0;
  layout.text_data_ring = 48;
  layout.count_bits = 0;
  layout.descs = 8;
  layout.infos = 16;
  layout.head_id = 24;
  layout.tail_id = 32;
  layout.desc_size = 24;
  layout.state_var = 0;
  layout.text_blk_lpos = 8;
  layout.lpos_begin = 0;
  layout.lpos_next = 8;
  layout.info_size = 32;
  layout.seq = 0;
  layout.ts_nsec = 8;
  layout.text_len = 16;
  layout.facility = 18;
  layout.level_bit = 19 * 8 + 5;
  layout.level_bits = 3;
  layout.size_bits = 0;
  layout.data = 8;
  return layout;
}

/// A log of 8 records and 256 bytes of text, written as the kernel does.
class KernelLogTest : public ::testing::Test {
 protected:
  KernelLogTest() {
    memory.put(GuestVirtAddr(kPrb), kRing);
    memory.write(GuestVirtAddr(kRing), std::vector<std::byte>(80));
    memory.put(GuestVirtAddr(kRing), std::uint32_t{3});
    memory.put(GuestVirtAddr(kRing + 8), kDescs);
    memory.put(GuestVirtAddr(kRing + 16), kInfos);
    memory.put(GuestVirtAddr(kRing + 48), std::uint32_t{8});
    memory.put(GuestVirtAddr(kRing + 56), kData);
    memory.write(GuestVirtAddr(kDescs), std::vector<std::byte>(kCount * 24));
    memory.write(GuestVirtAddr(kInfos), std::vector<std::byte>(kCount * 32));
    memory.write(GuestVirtAddr(kData), std::vector<std::byte>(kDataSize));
    // The blank descriptor that a ring starts with.
    set_state(blank, kReusable);
    set_ends(blank, blank);
  }

  static std::uint64_t desc_at(std::uint64_t id) { return kDescs + id % kCount * 24; }
  static std::uint64_t info_at(std::uint64_t id) { return kInfos + id % kCount * 32; }
  std::uint64_t id_of(std::uint64_t seq) const { return (blank + 1 + seq) & kIdMask; }

  void set_state(std::uint64_t id, std::uint64_t state) {
    memory.put(GuestVirtAddr(desc_at(id)), (state << 62U) | id);
  }
  void set_lpos(std::uint64_t seq, std::uint64_t begin, std::uint64_t next) {
    memory.put(GuestVirtAddr(desc_at(id_of(seq)) + 8), begin);
    memory.put(GuestVirtAddr(desc_at(id_of(seq)) + 16), next);
  }
  void set_ends(std::uint64_t tail, std::uint64_t head) {
    memory.put(GuestVirtAddr(kRing + 24), head);
    memory.put(GuestVirtAddr(kRing + 32), tail);
  }

  /// Adds a record; the oldest leaves when there is no descriptor for it. Texts are 8 to 16 bytes.
  void add(std::string_view text, std::uint64_t state = kFinalized) {
    const std::uint64_t seq = next_seq++;
    const std::uint64_t id = id_of(seq);
    set_state(id, state);
    const std::uint64_t size = (8 + text.size() + 7) / 8 * 8;
    std::uint64_t next = next_lpos + size;
    std::uint64_t at = next_lpos % kDataSize;
    if (next / kDataSize != next_lpos / kDataSize) {
      at = 0;
      next = next / kDataSize * kDataSize + size;
    }
    set_lpos(seq, next_lpos, next);
    next_lpos = next;
    memory.put(GuestVirtAddr(kData + at), id);
    memory.put_text(GuestVirtAddr(kData + at + 8), text);
    memory.put(GuestVirtAddr(info_at(id)), seq);
    memory.put(GuestVirtAddr(info_at(id) + 8), seq * 1000);
    memory.put(GuestVirtAddr(info_at(id) + 16), static_cast<std::uint16_t>(text.size()));
    set_ends(seq + 1 > kCount - 1 ? (id - (kCount - 1)) & kIdMask : blank, id);
  }

  static std::vector<std::string> texts(const KernelLog& log) {
    std::vector<std::string> all;
    for (const LogRecord& record : log.records) {
      all.push_back(record.text);
    }
    return all;
  }

  const std::uint64_t blank = kIdMask - kCount;  // ids pass through zero soon, as in the kernel
  std::uint64_t next_seq = 0;
  std::uint64_t next_lpos = std::uint64_t{0} - kDataSize;
  SparseVirtualMemory memory;
  LogLayout layout = make_layout();
};

TEST_F(KernelLogTest, IsEmptyBeforeTheFirstRecord) {
  const auto log = read_kernel_log(memory, layout);
  ASSERT_TRUE(log.has_value()) << log.error().what;
  EXPECT_THAT(log->records, IsEmpty());
  EXPECT_EQ(log->next_sequence, 0U);
  EXPECT_EQ(log->lost, 0U);
}

TEST_F(KernelLogTest, TellsEveryFieldOfARecord) {
  add("zero");
  add("one");
  memory.put(GuestVirtAddr(info_at(id_of(1)) + 18), std::uint8_t{3});
  memory.put(GuestVirtAddr(info_at(id_of(1)) + 19), std::uint8_t{(5U << 5U) | 0x1f});
  const auto log = read_kernel_log(memory, layout);
  ASSERT_TRUE(log.has_value());
  ASSERT_THAT(log->records, SizeIs(2));
  EXPECT_EQ(log->records[1].sequence, 1U);
  EXPECT_EQ(log->records[1].time_ns, 1000U);
  EXPECT_EQ(log->records[1].facility, 3);
  EXPECT_EQ(log->records[1].level, 5);
  EXPECT_EQ(log->records[1].text, "one");
}

TEST_F(KernelLogTest, GoesOnWhereAFollowerStopped) {
  add("zero");
  add("one");
  auto log = read_kernel_log(memory, layout);
  ASSERT_TRUE(log.has_value());
  add("two");
  log = read_kernel_log(memory, layout, log->next_sequence);
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(*log), ElementsAre("two"));
  EXPECT_EQ(log->next_sequence, 3U);
}

TEST_F(KernelLogTest, CountsWhatWasOverwrittenAsLost) {
  for (int record = 0; record < 20; ++record) {
    add(std::string(1, static_cast<char>('a' + record)));
  }
  const auto log = read_kernel_log(memory, layout, 5);
  ASSERT_TRUE(log.has_value());
  EXPECT_EQ(log->first_sequence, 12U);
  EXPECT_EQ(log->lost, 7U);
  EXPECT_THAT(texts(*log), ElementsAre("m", "n", "o", "p", "q", "r", "s", "t"));
}

TEST_F(KernelLogTest, ReadsTextsThatWrapAround) {
  // 104 bytes each: the third does not fit behind the second, and starts again at 0.
  const std::string first(90, 'a');
  const std::string second(90, 'b');
  const std::string third(90, 'c');
  add(first);
  add(second);
  add(third);
  const auto log = read_kernel_log(memory, layout, 1);
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(*log), ElementsAre(second, third));
  EXPECT_EQ(log->lost, 0U);
}

TEST_F(KernelLogTest, KnowsEmptyRecordsFromThoseWithoutRoom) {
  add("empty");
  add("no room");
  add("text");
  set_lpos(0, 3, 3);
  set_lpos(1, 1, 1);
  const auto log = read_kernel_log(memory, layout);
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(*log), ElementsAre("", "text"));
  EXPECT_EQ(log->lost, 1U);
}

TEST_F(KernelLogTest, LeavesUnfinishedRecordsAndTheRestForTheNextCall) {
  for (const std::uint64_t state : {kReserved, kCommitted}) {
    SCOPED_TRACE(state);
    next_seq = 0;
    add("zero");
    add("one", state);
    add("two");
    const auto log = read_kernel_log(memory, layout);
    ASSERT_TRUE(log.has_value());
    EXPECT_THAT(texts(*log), ElementsAre("zero"));
    EXPECT_EQ(log->next_sequence, 1U);
    EXPECT_EQ(log->lost, 0U);
  }
}

TEST_F(KernelLogTest, CutsATextAtItsBlock) {
  add("12345678");
  memory.put(GuestVirtAddr(info_at(id_of(0)) + 16), std::uint16_t{65535});
  const auto log = read_kernel_log(memory, layout);
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(*log), ElementsAre("12345678"));
}

TEST_F(KernelLogTest, BelievesNoBlockThatMakesNoSense) {
  constexpr std::array<std::pair<std::uint64_t, std::uint64_t>, 6> kPlaces = {
      {{0x1000, 0x1000},    // empty
       {0x1004, 0x1020},    // not aligned
       {0x1000, 0x1008},    // no room for more than its id
       {0x1000, 0x5000},    // longer than the ring
       {0x1020, 0x1000},    // backwards
       {0x1001, 0x1000}}};  // half of it without text
  for (const auto& [begin, next] : kPlaces) {
    SCOPED_TRACE(begin);
    next_seq = 0;
    add("zero");
    set_lpos(0, begin, next);
    const auto log = read_kernel_log(memory, layout);
    ASSERT_TRUE(log.has_value());
    EXPECT_THAT(log->records, IsEmpty());
    EXPECT_EQ(log->lost, 1U);
  }
}

TEST_F(KernelLogTest, CountsARecordAsLostThatIsOverwrittenWhileItIsRead) {
  add("zero");
  add("one");
  MovingMemory moving(memory);
  moving.before_read = [this](GuestVirtAddr address) {
    if (address == GuestVirtAddr(kData)) {
      set_state(id_of(0) + kCount, kReserved);
    }
  };
  const auto log = read_kernel_log(moving, layout);
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(texts(*log), ElementsAre("one"));
  EXPECT_EQ(log->lost, 1U);
}

TEST_F(KernelLogTest, RefusesRingsThatAreTooLarge) {
  for (const std::uint32_t bits : {0U, 24U, 64U, 0xffffffffU}) {
    SCOPED_TRACE(bits);
    memory.put(GuestVirtAddr(kRing), bits);
    const auto log = read_kernel_log(memory, layout);
    ASSERT_FALSE(log.has_value());
    EXPECT_EQ(log.error().code, Errc::corrupt);
  }
  memory.put(GuestVirtAddr(kRing), std::uint32_t{3});
  memory.put(GuestVirtAddr(kRing + 48), std::uint32_t{40});
  EXPECT_FALSE(read_kernel_log(memory, layout).has_value());
}

TEST_F(KernelLogTest, RefusesRecordsThatShareTheirText) {
  for (int record = 0; record < 7; ++record) {
    add("x");
  }
  // Each record would have the same 120 bytes, under an id that fits each in turn.
  MovingMemory moving(memory);
  memory.write(GuestVirtAddr(kData), std::vector<std::byte>(kDataSize));
  for (std::uint64_t seq = 0; seq < 7; ++seq) {
    set_lpos(seq, seq * 8, seq * 8 + 128);
    memory.put(GuestVirtAddr(info_at(id_of(seq)) + 16), std::uint16_t{120});
    memory.put(GuestVirtAddr(kData + seq * 8), id_of(seq));
  }
  const auto log = read_kernel_log(moving, layout);
  ASSERT_FALSE(log.has_value());
  EXPECT_EQ(log.error().code, Errc::corrupt);
}

}  // namespace
}  // namespace vpatch::introspect
