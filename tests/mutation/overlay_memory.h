// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "introspect/memory/guest_memory.h"
#include "introspect/memory/unique_mapping.h"

namespace vpatch::mutation {

/// Guest RAM copied out of another memory once, and changes laid over it that cost no copy of it.
/// Writes down which bytes are read. One thread at a time.
class OverlayMemory final : public introspect::GuestMemory {
 public:
  /// A read, or a part of one that lies in one page.
  struct Extent {
    std::uint64_t address = 0;
    std::uint64_t size = 0;

    friend auto operator<=>(const Extent&, const Extent&) = default;
  };

  static introspect::Result<OverlayMemory> copy_of(const introspect::GuestMemory& memory);

  /// The word at `address`, which is a multiple of 8, as it is without changes; 0 outside of RAM.
  std::uint64_t original(std::uint64_t address) const;
  /// The word is `value` from now on.
  void change(std::uint64_t address, std::uint64_t value);
  void change_page(std::uint64_t page, std::span<const std::byte, introspect::kPageSize> bytes);
  /// The word is `value` at every second read of it.
  void tear(std::uint64_t address, std::uint64_t value);
  /// Takes all changes back.
  void restore();

  /// Reads are appended to `into` until this is called with null.
  void record(std::vector<Extent>* into) { record_ = into; }

  introspect::Result<void> read(introspect::GuestPhysAddr address,
                                std::span<std::byte> into) const override;
  std::span<const introspect::PhysRange> regions() const override { return regions_; }
  introspect::Result<std::optional<introspect::PhysRange>> next_populated(
      introspect::GuestPhysAddr from) const override;

 private:
  using Page = std::array<std::byte, introspect::kPageSize>;
  struct Torn {
    std::uint64_t address = 0;
    std::uint64_t value = 0;
    bool shows = false;  ///< at the next read
  };

  OverlayMemory() = default;
  introspect::Result<void> load(const introspect::GuestMemory& memory, std::size_t region);
  const std::byte* at(std::uint64_t address, std::uint64_t size) const;
  Page& own_page(std::uint64_t page);
  void lay_over(std::uint64_t address, std::span<std::byte> into) const;

  std::vector<introspect::PhysRange> regions_;
  std::vector<introspect::UniqueMapping> bytes_;  // one for each region
  std::vector<introspect::PhysRange> populated_;
  std::map<std::uint64_t, Page> changed_;  // by the page's address
  mutable std::vector<Torn> torn_;
  std::vector<Extent>* record_ = nullptr;
};

}  // namespace vpatch::mutation
