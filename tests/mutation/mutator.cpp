// SPDX-License-Identifier: Apache-2.0
#include "tests/mutation/mutator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace vpatch::mutation {
namespace {

using introspect::kPageSize;

constexpr std::size_t kMaxPointers = 200'000;
constexpr std::uint64_t kLowestKernel = 0xffff'8000'0000'0000;

bool is_kernel_pointer(std::uint64_t word) {
  return word >= kLowestKernel && word < 0xffff'ffff'ffff'f000;
}

}  // namespace

Mutator::Mutator(OverlayMemory& memory, std::vector<TargetGroup> groups) : memory_(&memory) {
  for (TargetGroup& group : groups) {
    std::ranges::sort(group.extents);
    const auto [first, last] = std::ranges::unique(group.extents);
    group.extents.erase(first, last);
    if (group.extents.empty()) {
      continue;
    }
    for (const auto& extent : group.extents) {
      for (std::uint64_t at = (extent.address + 7) / 8 * 8;
           at + 8 <= extent.address + extent.size && pointers_.size() < kMaxPointers; at += 8) {
        if (const std::uint64_t word = memory.original(at); is_kernel_pointer(word)) {
          pointers_.push_back(word);
        }
      }
    }
    groups_.push_back(std::move(group));
  }
}

const TargetGroup& Mutator::pick_group() {
  return groups_[below(groups_.size())];
}

/// Some word of some read; rather one that holds something, and rather a pointer.
std::uint64_t Mutator::pick_word(const TargetGroup& group) {
  std::uint64_t word = 0;
  for (int tries = 0; tries < 8; ++tries) {
    const auto& extent = group.extents[below(group.extents.size())];
    const std::uint64_t first = extent.address / 8;
    const std::uint64_t last = (extent.address + extent.size - 1) / 8;
    word = (first + below(last - first + 1)) * 8;
    const std::uint64_t value = memory_->original(word);
    if (is_kernel_pointer(value) || (tries >= 2 && value != 0) || tries >= 5) {
      break;
    }
  }
  return word;
}

std::uint64_t Mutator::pick_pointer() {
  return pointers_.empty() ? kLowestKernel : pointers_[below(pointers_.size())];
}

std::uint64_t Mutator::new_value(std::uint64_t old, const TargetGroup& group) {
  constexpr std::array<std::uint64_t, 10> kExtremes = {
      0,           ~std::uint64_t{0},     0x7fff'ffff,           0x8000'0000,
      0xffff'ffff, 0x7fff'ffff'ffff'ffff, 0x8000'0000'0000'0000, 0xffff'ffff'ffff'f000,
      0x00ff'ffff, 0xffff'ffff'8000'0000};
  switch (below(13)) {
    case 0:
      return 0;
    case 1:
      return ~std::uint64_t{0};
    case 2:
    case 3:
      return pick_pointer();
    case 4:
      return memory_->original(pick_word(group));
    case 5:
      return memory_->original(pick_word(pick_group()));
    case 6:
      return old + 1 - 2 * below(2);
    case 7:
      return old + 8 - 16 * below(2);
    case 8:
      return old ^ (std::uint64_t{1} << below(64));
    case 9:
      return kExtremes.at(below(kExtremes.size()));
    case 10:  // only the lower or the upper half: two 32-bit counts, say
      return (old & 0xffff'ffff'0000'0000) | (kExtremes.at(below(kExtremes.size())) & 0xffff'ffff);
    case 11:
      return (old & 0xffff'ffff) | kExtremes.at(below(kExtremes.size())) << 32U;
    default:
      return random_();
  }
}

void Mutator::change_page(std::uint64_t page, const TargetGroup& group) {
  std::array<std::byte, kPageSize> bytes{};
  switch (below(3)) {
    case 0:
      break;
    case 1:
      for (std::size_t at = 0; at < bytes.size(); at += 8) {
        const std::uint64_t word = below(4) == 0 ? random_() : pick_pointer();
        std::memcpy(bytes.data() + at, &word, sizeof(word));
      }
      break;
    default: {  // the bytes of another page of the kind
      const std::uint64_t other = pick_word(group) & ~(kPageSize - 1);
      for (std::size_t at = 0; at < bytes.size(); at += 8) {
        const std::uint64_t word = memory_->original(other + at);
        std::memcpy(bytes.data() + at, &word, sizeof(word));
      }
      break;
    }
  }
  memory_->change_page(page, bytes);
}

std::string Mutator::mutate(std::uint64_t seed) {
  random_.seed(seed);
  pages_.clear();
  std::string what;
  std::uint64_t changes = 1;
  while (changes < 6 && below(3) == 0) {
    ++changes;
  }
  const bool one_group = below(2) == 0;
  const TargetGroup* group = &pick_group();
  for (std::uint64_t change = 0; change < changes; ++change) {
    if (!one_group) {
      group = &pick_group();
    }
    const std::uint64_t word = pick_word(*group);
    pages_.push_back(word & ~(kPageSize - 1));
    const std::uint64_t kind = below(20);
    if (kind == 0) {
      change_page(pages_.back(), *group);
      what += fmt::format(" [{}: page {:#x}]", group->name, pages_.back());
      continue;
    }
    const std::uint64_t old = memory_->original(word);
    const std::uint64_t value = new_value(old, *group);
    if (kind <= 4) {
      memory_->tear(word, value);
    } else {
      memory_->change(word, value);
    }
    what += fmt::format(" [{}: {:#x} {:#x} -> {:#x}{}]", group->name, word, old, value,
                        kind <= 4 ? " torn" : "");
  }
  return what;
}

}  // namespace vpatch::mutation
