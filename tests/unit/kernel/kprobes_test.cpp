// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/kprobes.h"

#include <algorithm>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kTable = 0x1000, kFirst = 0x10000, kSecond = 0x11000, kOther = 0x12000;

class KprobesTest : public ::testing::Test {
 protected:
  KprobesTest() { memory.write(GuestVirtAddr(kTable), std::vector<std::byte>(64 * 8)); }

  /// A struct kprobe in the chain of `bucket`, `before` it what points at it.
  void put(std::uint64_t at, std::uint64_t before, std::uint64_t address, std::uint64_t handler,
           std::uint32_t flags) {
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(layout.size));
    memory.put(GuestVirtAddr(before), at + layout.hlist);
    memory.put(GuestVirtAddr(at + layout.hlist + 8), before);
    memory.put(GuestVirtAddr(at + layout.address), address);
    memory.put(GuestVirtAddr(at + layout.post_handler), handler);
    memory.put(GuestVirtAddr(at + layout.flags), flags);
  }

  testing::SparseVirtualMemory memory;
  KprobeLayout layout{.table = GuestVirtAddr(kTable),
                      .hlist = 16,
                      .address = 40,
                      .post_handler = 72,
                      .flags = 120,
                      .size = 128};
};

TEST_F(KprobesTest, AreNoneInAnEmptyTable) {
  const auto probes = read_kprobes(memory, layout);
  ASSERT_TRUE(probes.has_value()) << probes.error().what;
  EXPECT_THAT(*probes, IsEmpty());
}

TEST_F(KprobesTest, AreReadFromEveryChain) {
  put(kFirst, kTable, 0xf000, 0, 8);
  put(kSecond, kFirst + layout.hlist, 0xf100, 0xd000, 2);
  put(kOther, kTable + 63 * 8, 0xf200, 0xd000, 8 | 16);
  const auto probes = read_kprobes(memory, layout);
  ASSERT_TRUE(probes.has_value()) << probes.error().what;
  EXPECT_THAT(
      *probes,
      ElementsAre(
          Kprobe{.address = GuestVirtAddr(0xf000), .by_ftrace = true},
          Kprobe{.address = GuestVirtAddr(0xf100), .post_handler = true, .disabled = true},
          Kprobe{.address = GuestVirtAddr(0xf200), .post_handler = true, .by_ftrace = true}));
}

TEST_F(KprobesTest, AreNotThoseWhoseCodeIsGone) {
  put(kFirst, kTable, 0xf000, 0, 1);
  const auto probes = read_kprobes(memory, layout);
  ASSERT_TRUE(probes.has_value());
  EXPECT_THAT(*probes, IsEmpty());
}

TEST_F(KprobesTest, FailAsTornOnACycle) {
  put(kFirst, kTable, 0xf000, 0, 0);
  memory.put(GuestVirtAddr(kFirst + layout.hlist), kFirst + layout.hlist);
  const auto probes = read_kprobes(memory, layout);
  ASSERT_FALSE(probes.has_value());
  EXPECT_EQ(probes.error().code, Errc::torn);
}

/// The first chain goes on and on through probes that are gone.
class EndlessProbes final : public VirtualMemory {
 public:
  explicit EndlessProbes(const KprobeLayout& layout) : layout_(layout) {}

  Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override {
    std::ranges::fill(into, std::byte{0});
    const std::uint64_t at = address.value(), node = at + layout_.hlist;
    if (at == kTable) {
      store(into, 0, kFirst + layout_.hlist);
    } else {
      store(into, layout_.hlist, node + layout_.size);
      store(into, layout_.hlist + 8, at == kFirst ? kTable : node - layout_.size);
      store(into, layout_.flags, std::uint64_t{1});
    }
    return {};
  }

 private:
  static void store(std::span<std::byte> into, std::uint64_t offset, std::uint64_t value) {
    std::memcpy(into.subspan(offset, sizeof(value)).data(), &value, sizeof(value));
  }

  KprobeLayout layout_;
};

TEST_F(KprobesTest, FailAsCorruptWhenThereAreTooManyEvenIfTheyAreGone) {
  const auto probes = read_kprobes(EndlessProbes(layout), layout);
  ASSERT_FALSE(probes.has_value());
  EXPECT_EQ(probes.error().code, Errc::corrupt);
}

TEST_F(KprobesTest, FailAsTornOnAProbeThatIsNotThere) {
  memory.put(GuestVirtAddr(kTable), std::uint64_t{0x999000});
  const auto probes = read_kprobes(memory, layout);
  ASSERT_FALSE(probes.has_value());
  EXPECT_EQ(probes.error().code, Errc::torn);
}

}  // namespace
}  // namespace vpatch::introspect
