// SPDX-License-Identifier: Apache-2.0
#include "page_tables.h"

#include <cstring>

namespace vpatch::kvm {
namespace {

constexpr std::size_t kEntries = 512;
constexpr std::size_t kTablesOfLevel = 24;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kLarge = 1U << 7U;
constexpr std::uint64_t kGlobal = 1U << 8U;
constexpr std::uint64_t kPat = 1U << 12U;
// Writable, user, write-through, cache-disable, accessed, dirty, 9 to 11, 52 to 58, no-execute; not
// the protection keys of 59 to 62, which are free too but need no test of their own.
constexpr std::uint64_t kFree = 0x87f0'0000'0000'0e7e;
// Within 36 bits, which every CPU has.
constexpr std::uint64_t kHighest = std::uint64_t{1} << 36U;

}  // namespace

RandomPageTables::RandomPageTables(std::span<std::byte> ram, introspect::Paging paging,
                                   bool gigantic, std::uint32_t seed)
    : ram_(ram), levels_(static_cast<int>(paging)), highest_leaf_(gigantic ? 3 : 2), random_(seed) {
  // Table 0 is the root; the tables of level N follow those of level N + 1.
  for (std::size_t index = 0; index < kEntries; ++index) {
    put(0, index, entry_of(levels_));
  }
  for (int level = levels_ - 1; level >= 1; --level) {
    const std::size_t first = 1 + static_cast<std::size_t>(levels_ - 1 - level) * kTablesOfLevel;
    for (std::size_t table = first; table < first + kTablesOfLevel; ++table) {
      for (std::size_t index = 0; index < kEntries; ++index) {
        put(table, index, entry_of(level));
      }
    }
  }
}

std::uint64_t RandomPageTables::random(std::uint64_t below) {
  return random_() % below;
}

void RandomPageTables::put(std::size_t table, std::size_t index, std::uint64_t entry) {
  std::memcpy(ram_.data() + table * kPage + index * sizeof(entry), &entry, sizeof(entry));
}

std::uint64_t RandomPageTables::entry_of(int level) {
  const std::uint64_t flags = random_() & kFree;
  if (random(8) == 0) {
    return random_() & ~kPresent;  // all else is free when it is not present
  }
  if (level == 1) {
    return kPresent | flags | (random_() & (kLarge | kGlobal)) | random(kHighest / kPage) * kPage;
  }
  const std::uint64_t kind = random(64);
  if (kind < 16 && level <= highest_leaf_) {
    const std::uint64_t size = level == 2 ? kPage << 9U : kPage << 18U;
    std::uint64_t page = random(kHighest / size) * size;
    if (kind == 0) {
      page |= random(size / kPage) * kPage;  // mostly reserved bits
    }
    return kPresent | kLarge | flags | (random_() & (kGlobal | kPat)) | page;
  }
  const std::size_t first = 1 + static_cast<std::size_t>(levels_ - level) * kTablesOfLevel;
  if (kind == 63) {
    // A table outside of RAM, or a loop to one of this level or above. Not to one below: its global
    // pages would be reserved bits here for some CPUs, and its PAT bits would mark large pages.
    return kPresent | flags | random(random(2) == 0 ? kHighest / kPage : first) * kPage;
  }
  if (kind == 62 && level >= 4) {
    return kPresent | kLarge | flags | (1 + random(100)) * kPage;  // reserved
  }
  return kPresent | flags | (first + random(kTablesOfLevel)) * kPage;
}

introspect::GuestVirtAddr RandomPageTables::address() {
  const unsigned unused = levels_ == 5 ? 64 - 57 : 64 - 48;
  const auto signed_address = static_cast<std::int64_t>(random_() << unused) >> unused;
  return introspect::GuestVirtAddr(static_cast<std::uint64_t>(signed_address));
}

}  // namespace vpatch::kvm
