// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

#include "introspect/memory/address_space.h"

namespace vpatch::kvm {

/// Page tables with random contents: all page sizes, entries that are not present, loops back to
/// tables of other levels, and in every entry random values in the bits that the CPU leaves to
/// software or that change no translation.
class RandomPageTables {
 public:
  /// Fills `ram`, which starts at guest-physical address 0 and is at least 4 MiB, from `seed`; with
  /// pages of 1 GiB when `gigantic`.
  RandomPageTables(std::span<std::byte> ram, introspect::Paging paging, bool gigantic,
                   std::uint32_t seed);

  introspect::GuestPhysAddr root() const { return introspect::GuestPhysAddr(0); }

  /// A canonical address.
  introspect::GuestVirtAddr address();

 private:
  void put(std::size_t table, std::size_t index, std::uint64_t entry);
  std::uint64_t entry_of(int level);
  std::uint64_t random(std::uint64_t below);

  std::span<std::byte> ram_;
  int levels_;
  int highest_leaf_;
  std::mt19937_64 random_;
};

}  // namespace vpatch::kvm
