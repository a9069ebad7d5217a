// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/composite_memory.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "introspect/memory/region_map.h"

namespace vpatch::introspect {

CompositeMemory::CompositeMemory(std::vector<std::unique_ptr<GuestMemory>> parts)
    : parts_(std::move(parts)) {
  std::vector<std::pair<PhysRange, std::size_t>> owned;
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    for (const PhysRange& range : parts_[part]->regions()) {
      owned.emplace_back(range, part);
    }
  }
  std::ranges::sort(owned, {}, [](const auto& one) { return one.first.start(); });
  for (const auto& [range, part] : owned) {
    ranges_.push_back(range);
    owners_.push_back(part);
  }
}

Result<CompositeMemory> CompositeMemory::create(std::vector<std::unique_ptr<GuestMemory>> parts) {
  CompositeMemory memory(std::move(parts));
  if (memory.ranges_.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  for (std::size_t index = 1; index < memory.ranges_.size(); ++index) {
    if (memory.ranges_[index].overlaps(memory.ranges_[index - 1])) {
      return fail(Errc::out_of_range, "RAM regions overlap in the guest");
    }
  }
  return memory;
}

std::optional<std::size_t> CompositeMemory::region_of(GuestPhysAddr address) const {
  const auto after = std::ranges::upper_bound(ranges_, address, {}, &PhysRange::start);
  if (after == ranges_.begin() || !std::prev(after)->holds(address, 1)) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(after - ranges_.begin()) - 1;
}

Result<void> CompositeMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto region = region_of(address);
    if (!region) {
      return no_ram_at(address);
    }
    const std::uint64_t left = PhysRange::between(address, ranges_[*region].end()).size();
    const auto part = into.first(std::min<std::uint64_t>(into.size(), left));
    if (auto done = parts_[owners_[*region]]->read(address, part); !done) {
      return done;
    }
    into = into.subspan(part.size());
    address = GuestPhysAddr(address.value() + part.size());
  }
  return {};
}

Result<void> CompositeMemory::write(GuestPhysAddr address, std::span<const std::byte> bytes) {
  struct Piece {
    GuestMemory* part;
    GuestPhysAddr address;
    std::span<const std::byte> bytes;
  };
  std::vector<Piece> pieces;
  while (!bytes.empty()) {
    const auto region = region_of(address);
    if (!region) {
      return no_ram_at(address);
    }
    const std::uint64_t left = PhysRange::between(address, ranges_[*region].end()).size();
    const auto some = bytes.first(std::min<std::uint64_t>(bytes.size(), left));
    pieces.push_back({parts_[owners_[*region]].get(), address, some});
    bytes = bytes.subspan(some.size());
    address = GuestPhysAddr(address.value() + some.size());
  }
  for (const Piece& piece : pieces) {
    if (auto done = piece.part->write(piece.address, piece.bytes); !done) {
      return done;
    }
  }
  return {};
}

void CompositeMemory::read_many(std::span<PhysRead> reads) const {
  std::vector<std::vector<PhysRead>> of_part(parts_.size());
  std::vector<std::vector<std::size_t>> origins(parts_.size());
  for (std::size_t index = 0; index < reads.size(); ++index) {
    PhysRead& one = reads[index];
    const auto region = region_of(one.address);
    if (region && ranges_[*region].holds(one.address, one.into.size())) {
      of_part[owners_[*region]].push_back(one);
      origins[owners_[*region]].push_back(index);
    } else {
      one.done = read(one.address, one.into).has_value();
    }
  }
  for (std::size_t part = 0; part < parts_.size(); ++part) {
    parts_[part]->read_many(of_part[part]);
    for (std::size_t index = 0; index < origins[part].size(); ++index) {
      reads[origins[part][index]].done = of_part[part][index].done;
    }
  }
}

Result<std::optional<PhysRange>> CompositeMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr page(from.value() / kPageSize * kPageSize);
  for (std::size_t region = 0; region < ranges_.size(); ++region) {
    if (ranges_[region].end() <= page) {
      continue;
    }
    auto found = parts_[owners_[region]]->next_populated(std::max(page, ranges_[region].start()));
    // An answer past this region is left for its own turn: another part may come before it.
    if (!found) {
      return found;
    }
    const std::optional<PhysRange>& run = *found;
    if (run && run->start() < ranges_[region].end()) {
      return found;
    }
  }
  return std::nullopt;
}

void CompositeMemory::forget() {
  for (const auto& part : parts_) {
    part->forget();
  }
}

}  // namespace vpatch::introspect
