// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/name_index.h"

#include <bit>

namespace vpatch::introspect {
namespace {

// Real names differ by then; more would let a hostile guest's long ones cost seconds.
constexpr std::size_t kHashed = 64;

}  // namespace

std::uint32_t hash_name(std::string_view name) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : name.substr(0, kHashed)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return hash ^ (hash >> 15U);
}

NameIndex::NameIndex(std::span<const Entry> entries) {
  if (entries.empty()) {
    return;
  }
  const std::size_t buckets = std::bit_ceil(entries.size());
  mask_ = static_cast<std::uint32_t>(buckets - 1);
  starts_.assign(buckets + 1, 0);
  values_.resize(entries.size());
  for (const Entry& entry : entries) {
    ++starts_[entry.hash & mask_];
  }
  std::uint32_t sum = 0;
  for (std::uint32_t& start : starts_) {
    sum += start;
    start = sum;
  }
  // Filled from the back, each bucket's end moves down to its start.
  for (std::size_t at = entries.size(); at > 0; --at) {
    const Entry& entry = entries[at - 1];
    values_[--starts_[entry.hash & mask_]] = entry.value;
  }
}

std::span<const std::uint32_t> NameIndex::candidates(std::uint32_t hash) const {
  if (values_.empty()) {
    return {};
  }
  const std::uint32_t bucket = hash & mask_;
  return std::span(values_).subspan(starts_[bucket], starts_[bucket + 1] - starts_[bucket]);
}

}  // namespace vpatch::introspect
