// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/mutation/overlay_memory.h"

namespace vpatch::mutation {

/// The words that one kind of look read in a clean run.
struct TargetGroup {
  std::string name;
  std::vector<OverlayMemory::Extent> extents;  ///< never empty
};

/// Corrupts a guest in ways that follow from a seed alone.
class Mutator {
 public:
  /// `memory` must outlive this object. Groups without extents are left out.
  Mutator(OverlayMemory& memory, std::vector<TargetGroup> groups);

  /// One to six changes. Says what they are, for the report of a failure.
  std::string mutate(std::uint64_t seed);
  /// The pages that the last mutate() has changed, by address.
  const std::vector<std::uint64_t>& pages() const { return pages_; }

 private:
  using Random = std::mt19937_64;

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  const TargetGroup& pick_group();
  std::uint64_t pick_word(const TargetGroup& group);
  std::uint64_t pick_pointer();
  std::uint64_t new_value(std::uint64_t old, const TargetGroup& group);
  void change_page(std::uint64_t page, const TargetGroup& group);

  OverlayMemory* memory_;
  std::vector<TargetGroup> groups_;
  std::vector<std::uint64_t> pointers_;  // kernel addresses seen in the words
  std::vector<std::uint64_t> pages_;
  Random random_;
};

}  // namespace vpatch::mutation
