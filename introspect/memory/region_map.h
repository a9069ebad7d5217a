// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "introspect/error.h"
#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// One piece of guest RAM and where its backing has it: an offset in a file, or an address of the
/// VMM. `start` and `size` are multiples of kPageSize, in bytes; `place` is anything.
struct PlacedRegion {
  GuestPhysAddr start;
  std::uint64_t size = 0;
  std::uint64_t place = 0;
};

/// The layout of a guest's RAM, checked once, so that what is found through it needs no check.
class RegionMap {
 public:
  /// Where one address lies: `left` bytes from `place` on are one piece.
  struct Found {
    std::size_t region = 0;
    std::uint64_t offset = 0;  ///< in the region
    std::uint64_t place = 0;
    std::uint64_t left = 0;  ///< to the end of the region
  };

  /// The regions may come in any order. Errc::no_memory without any, Errc::out_of_range for one
  /// that is empty, unaligned, runs past 64 bits or past `backing_size`, or overlaps another one in
  /// the guest or in the backing.
  static Result<RegionMap> create(std::vector<PlacedRegion> regions, std::uint64_t backing_size);

  /// In rising order.
  std::span<const PhysRange> ranges() const { return ranges_; }
  /// Where region `index` starts in the backing.
  std::uint64_t place(std::size_t index) const { return places_[index]; }

  /// Nothing when there is no RAM.
  std::optional<Found> find(GuestPhysAddr address) const;

 private:
  std::vector<PhysRange> ranges_;
  std::vector<std::uint64_t> places_;  // one for each of ranges_
};

/// The error of a read or write of `address`, which find() does not know.
std::unexpected<Error> no_ram_at(GuestPhysAddr address);

/// The error of a write to a page that would have to be made.
std::unexpected<Error> never_touched(GuestPhysAddr address);

}  // namespace vpatch::introspect
