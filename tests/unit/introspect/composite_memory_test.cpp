// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/composite_memory.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;

/// Two parts: one with RAM below 1 MiB and from 2 MiB on, one with what lies between.
struct Parts {
  std::unique_ptr<FakeMemory> outer = std::make_unique<FakeMemory>(
      std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, kMiB}, {2 * kMiB, kMiB}});
  std::unique_ptr<FakeMemory> inner = std::make_unique<FakeMemory>(
      std::vector<std::pair<std::uint64_t, std::uint64_t>>{{kMiB, kMiB}});

  Result<CompositeMemory> join() {
    std::vector<std::unique_ptr<GuestMemory>> parts;
    parts.push_back(std::move(outer));
    parts.push_back(std::move(inner));
    return CompositeMemory::create(std::move(parts));
  }
};

std::string text_at(const GuestMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestPhysAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(to_string(done.error().code));
}

TEST(CompositeMemory, ReadsAcrossItsParts) {
  Parts parts;
  parts.outer->write(kMiB - 2, "ab");
  parts.inner->write(kMiB, "cd");
  const auto memory = parts.join();
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), "abcd");
  EXPECT_EQ(text_at(*memory, 3 * kMiB - 1, 2), "out-of-range");
}

TEST(CompositeMemory, ReadsManyFromAllPartsAndTellsWhichFailed) {
  Parts parts;
  parts.outer->write(kMiB - 1, "a");
  parts.inner->write(kMiB, "b");
  parts.inner->fault(kMiB + 0x5000, Errc::io);
  const auto memory = parts.join();
  ASSERT_TRUE(memory);
  std::string into(5, '?');
  const auto part = [&](std::size_t at, std::size_t size) {
    return std::as_writable_bytes(std::span(into).subspan(at, size));
  };
  std::array<PhysRead, 4> reads{PhysRead{GuestPhysAddr(kMiB), part(0, 1)},
                                PhysRead{GuestPhysAddr(kMiB - 1), part(1, 2)},
                                PhysRead{GuestPhysAddr(kMiB + 0x5000), part(3, 1)},
                                PhysRead{GuestPhysAddr(kGiB), part(4, 1)}};
  memory->read_many(reads);
  EXPECT_TRUE(reads[0].done);
  EXPECT_TRUE(reads[1].done);
  EXPECT_FALSE(reads[2].done);
  EXPECT_FALSE(reads[3].done);
  EXPECT_EQ(into.substr(0, 3), "bab");
}

TEST(CompositeMemory, WalksTheDataOfAllPartsInOrder) {
  Parts parts;
  parts.outer->write(0x3000, "a");
  parts.outer->write(2 * kMiB + 0x1000, "c");
  parts.inner->write(kMiB + 0x2000, "b");
  const auto memory = parts.join();
  ASSERT_TRUE(memory);
  std::vector<std::uint64_t> found;
  for (GuestPhysAddr from(0);;) {
    const auto data = memory->next_populated(from);
    ASSERT_TRUE(data);
    if (!*data) {
      break;
    }
    found.push_back((*data)->start().value());
    from = (*data)->end();
  }
  EXPECT_THAT(found, ElementsAre(0x3000, kMiB + 0x2000, 2 * kMiB + 0x1000));
}

TEST(CompositeMemory, RefusesPartsThatClaimTheSameRam) {
  std::vector<std::unique_ptr<GuestMemory>> parts;
  for (int part = 0; part < 2; ++part) {
    parts.push_back(std::make_unique<FakeMemory>(
        std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, kMiB}}));
  }
  const auto memory = CompositeMemory::create(std::move(parts));
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::out_of_range);
}

TEST(CompositeMemory, SaysNoMemoryWithoutParts) {
  const auto memory = CompositeMemory::create({});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::no_memory);
}

std::string write_text(GuestMemory& memory, std::uint64_t address, std::string_view text) {
  const auto done = memory.write(GuestPhysAddr(address), std::as_bytes(std::span(text)));
  return done ? "done" : std::string(to_string(done.error().code));
}

TEST(CompositeMemory, WritesAcrossItsParts) {
  Parts parts;
  parts.outer->write(kMiB - 2, "..");
  parts.inner->write(kMiB, "..");
  auto memory = parts.join();
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, kMiB - 1, "ab"), "done");
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), ".ab.");
}

TEST(CompositeMemory, WritesNothingThatRunsOutOfRam) {
  Parts parts;
  parts.outer->write(3 * kMiB - 2, "..");
  auto memory = parts.join();
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 3 * kMiB - 1, "ab"), "out-of-range");
  EXPECT_EQ(text_at(*memory, 3 * kMiB - 2, 2), "..");
}

TEST(CompositeMemory, PassesOnWhatAPartRefuses) {
  Parts parts;
  auto memory = parts.join();
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, kMiB, "a"), "out-of-range");
}

}  // namespace
}  // namespace vpatch::introspect
