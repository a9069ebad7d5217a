// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/region_map.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

using Place = Address<struct BackingSpace>;
using PlaceRange = AddressRange<Place>;

/// One region in the guest and in its backing.
struct Both {
  PhysRange guest;
  PlaceRange backing;
};

Result<Both> check(const PlacedRegion& region, std::uint64_t backing_size) {
  const auto bad = [&](std::string_view why) {
    return fail(Errc::out_of_range,
                fmt::format("RAM region {:#x} + {:#x} at {:#x} of its backing {}",
                            region.start.value(), region.size, region.place, why));
  };
  if (region.size == 0) {
    return bad("is empty");
  }
  if ((region.start.value() | region.size) % kPageSize != 0) {
    return bad("is not page-aligned");
  }
  const auto guest = PhysRange::make(region.start, region.size);
  const auto backing = PlaceRange::make(Place(region.place), region.size);
  if (!guest || !backing) {
    return bad("runs past 64 bits");
  }
  if (backing->end() > Place(backing_size)) {
    return bad(fmt::format("runs past the backing's {:#x} bytes", backing_size));
  }
  return Both{*guest, *backing};
}

/// Whether any two of `ranges`, in rising order of start, overlap.
template <class Range>
bool any_overlap(const std::vector<Range>& ranges) {
  return std::ranges::adjacent_find(ranges, [](const Range& low, const Range& high) {
           return low.overlaps(high);
         }) != ranges.end();
}

}  // namespace

Result<RegionMap> RegionMap::create(std::vector<PlacedRegion> regions, std::uint64_t backing_size) {
  if (regions.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  std::ranges::sort(regions, {}, &PlacedRegion::start);
  RegionMap map;
  std::vector<PlaceRange> backing;
  for (const PlacedRegion& region : regions) {
    const auto fine = check(region, backing_size);
    if (!fine) {
      return std::unexpected(fine.error());
    }
    map.ranges_.push_back(fine->guest);
    map.places_.push_back(region.place);
    backing.push_back(fine->backing);
  }
  std::ranges::sort(backing, {}, &PlaceRange::start);
  if (any_overlap(map.ranges_)) {
    return fail(Errc::out_of_range, "RAM regions overlap in the guest");
  }
  if (any_overlap(backing)) {
    return fail(Errc::out_of_range, "RAM regions overlap in their backing");
  }
  return map;
}

std::optional<RegionMap::Found> RegionMap::find(GuestPhysAddr address) const {
  const auto after = std::ranges::upper_bound(ranges_, address, {}, &PhysRange::start);
  if (after == ranges_.begin() || !std::prev(after)->holds(address, 1)) {
    return std::nullopt;
  }
  const auto region = static_cast<std::size_t>(after - ranges_.begin()) - 1;
  const std::uint64_t offset = address.value() - ranges_[region].start().value();
  return Found{region, offset, places_[region] + offset, ranges_[region].size() - offset};
}

std::unexpected<Error> no_ram_at(GuestPhysAddr address) {
  return fail(Errc::out_of_range, fmt::format("no guest RAM at {:#x}", address.value()));
}

std::unexpected<Error> never_touched(GuestPhysAddr address) {
  return fail(Errc::out_of_range,
              fmt::format("the guest has never touched its page at {:#x}, so it is not written to",
                          address.value() / kPageSize * kPageSize));
}

}  // namespace vpatch::introspect
