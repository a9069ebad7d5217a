// SPDX-License-Identifier: Apache-2.0
#include "tests/mutation/overlay_memory.h"

#include <algorithm>
#include <cstring>

#include <sys/mman.h>

namespace vpatch::mutation {

using introspect::GuestPhysAddr;
using introspect::kPageSize;
using introspect::PhysRange;
using introspect::Result;

Result<OverlayMemory> OverlayMemory::copy_of(const introspect::GuestMemory& memory) {
  OverlayMemory overlay;
  overlay.regions_.assign(memory.regions().begin(), memory.regions().end());
  for (std::size_t region = 0; region < overlay.regions_.size(); ++region) {
    if (auto done = overlay.load(memory, region); !done) {
      return std::unexpected(std::move(done).error());
    }
  }
  return overlay;
}

Result<void> OverlayMemory::load(const introspect::GuestMemory& memory, std::size_t region) {
  const PhysRange& range = regions_[region];
  bytes_.emplace_back(mmap(nullptr, range.size(), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                      range.size());
  if (!bytes_.back()) {
    return introspect::fail(introspect::Errc::io, "no memory for the guest's copy", errno);
  }
  Page page{};
  for (std::uint64_t offset = 0; offset < range.size(); offset += kPageSize) {
    const GuestPhysAddr address(range.start().value() + offset);
    if (auto done = memory.read(address, page); !done) {
      return done;
    }
    // Pages of zeros are left alone: they cost no memory, and count as holes.
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; })) {
      continue;
    }
    std::memcpy(bytes_.back().start() + offset, page.data(), kPageSize);
    if (!populated_.empty() && populated_.back().end() == address) {
      const PhysRange last = populated_.back();
      populated_.back() =
          PhysRange::between(last.start(), GuestPhysAddr(last.end().value() + kPageSize));
    } else {
      populated_.push_back(PhysRange::between(address, GuestPhysAddr(address.value() + kPageSize)));
    }
  }
  return {};
}

const std::byte* OverlayMemory::at(std::uint64_t address, std::uint64_t size) const {
  for (std::size_t region = 0; region < regions_.size(); ++region) {
    if (regions_[region].holds(GuestPhysAddr(address), size)) {
      return bytes_[region].start() + (address - regions_[region].start().value());
    }
  }
  return nullptr;
}

std::uint64_t OverlayMemory::original(std::uint64_t address) const {
  std::uint64_t word = 0;
  if (const std::byte* const bytes = at(address, sizeof(word)); bytes != nullptr) {
    std::memcpy(&word, bytes, sizeof(word));
  }
  return word;
}

OverlayMemory::Page& OverlayMemory::own_page(std::uint64_t page) {
  const auto [place, fresh] = changed_.try_emplace(page);
  if (const std::byte* const bytes = at(page, kPageSize); fresh && bytes != nullptr) {
    std::memcpy(place->second.data(), bytes, kPageSize);
  }
  return place->second;
}

void OverlayMemory::change(std::uint64_t address, std::uint64_t value) {
  Page& page = own_page(address & ~(kPageSize - 1));
  std::memcpy(page.data() + address % kPageSize, &value, sizeof(value));
}

void OverlayMemory::change_page(std::uint64_t page, std::span<const std::byte, kPageSize> bytes) {
  std::ranges::copy(bytes, own_page(page).begin());
}

void OverlayMemory::tear(std::uint64_t address, std::uint64_t value) {
  torn_.push_back({address, value, false});
}

void OverlayMemory::restore() {
  changed_.clear();
  torn_.clear();
}

void OverlayMemory::lay_over(std::uint64_t address, std::span<std::byte> into) const {
  const std::uint64_t end = address + into.size();
  for (auto page = changed_.lower_bound(address & ~(kPageSize - 1));
       page != changed_.end() && page->first < end; ++page) {
    const std::uint64_t from = std::max(address, page->first);
    const std::uint64_t to = std::min(end, page->first + kPageSize);
    std::memcpy(into.data() + (from - address), page->second.data() + (from - page->first),
                to - from);
  }
  for (Torn& torn : torn_) {
    if (torn.address >= address && torn.address + sizeof(torn.value) <= end) {
      if (torn.shows) {
        std::memcpy(into.data() + (torn.address - address), &torn.value, sizeof(torn.value));
      }
      torn.shows = !torn.shows;
    }
  }
}

Result<void> OverlayMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  if (into.empty()) {
    return {};
  }
  const std::byte* const bytes = at(address.value(), into.size());
  if (bytes == nullptr) {
    return introspect::fail(introspect::Errc::out_of_range, "no RAM there");
  }
  std::memcpy(into.data(), bytes, into.size());
  if (!changed_.empty() || !torn_.empty()) {
    lay_over(address.value(), into);
  }
  if (record_ != nullptr) {
    record_->push_back({address.value(), into.size()});
  }
  return {};
}

Result<std::optional<PhysRange>> OverlayMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr start(from.value() & ~(kPageSize - 1));
  const auto next = std::ranges::upper_bound(populated_, start, {}, &PhysRange::end);
  if (next == populated_.end()) {
    return std::nullopt;
  }
  return PhysRange::between(std::max(start, next->start()), next->end());
}

}  // namespace vpatch::mutation
