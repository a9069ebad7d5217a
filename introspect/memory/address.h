// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <optional>

namespace vpatch::introspect {

/// An address in one of the guest's address spaces. `Space` only keeps the spaces apart: addresses
/// of different spaces, integers and host pointers never turn into each other silently.
template <class Space>
class Address {
 public:
  constexpr Address() = default;
  constexpr explicit Address(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }

  /// The address `offset` bytes further, or nothing when that is past 64 bits.
  constexpr std::optional<Address> plus(std::uint64_t offset) const {
    if (offset > std::numeric_limits<std::uint64_t>::max() - value_) {
      return std::nullopt;
    }
    return Address(value_ + offset);
  }

  /// How many bytes this address lies after `base`, or nothing when it lies before it.
  constexpr std::optional<std::uint64_t> offset_from(Address base) const {
    if (value_ < base.value_) {
      return std::nullopt;
    }
    return value_ - base.value_;
  }

  friend constexpr auto operator<=>(Address, Address) = default;

 private:
  std::uint64_t value_ = 0;
};

/// What the guest's hardware would put on its memory bus.
using GuestPhysAddr = Address<struct GuestPhysSpace>;
/// What the guest's kernel calls a pointer.
using GuestVirtAddr = Address<struct GuestVirtSpace>;

/// `size` bytes from `start` on. The end always fits in 64 bits, so the very last byte of an
/// address space is in no range.
template <class Addr>
class AddressRange {
 public:
  constexpr AddressRange() = default;

  /// Nothing when the end would be past 64 bits.
  static constexpr std::optional<AddressRange> make(Addr start, std::uint64_t size) {
    if (!start.plus(size)) {
      return std::nullopt;
    }
    return AddressRange(start, size);
  }

  /// The bytes from `start` up to, not including, `end`; empty when `end` is not after `start`.
  static constexpr AddressRange between(Addr start, Addr end) {
    return AddressRange(start, end.offset_from(start).value_or(0));
  }

  constexpr Addr start() const { return start_; }
  constexpr std::uint64_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  /// The first address after the range.
  constexpr Addr end() const { return Addr(start_.value() + size_); }

  /// Whether `length` bytes at `offset` bytes from the start lie wholly inside.
  constexpr bool fits(std::uint64_t offset, std::uint64_t length) const {
    return length <= size_ && offset <= size_ - length;
  }

  /// Whether `length` bytes at `address` lie wholly inside.
  constexpr bool holds(Addr address, std::uint64_t length) const {
    const auto offset = address.offset_from(start_);
    return offset && fits(*offset, length);
  }

  constexpr bool overlaps(const AddressRange& other) const {
    return !empty() && !other.empty() && start_ < other.end() && other.start_ < end();
  }

  friend constexpr bool operator==(const AddressRange&, const AddressRange&) = default;

 private:
  constexpr AddressRange(Addr start, std::uint64_t size) : start_(start), size_(size) {}

  Addr start_{};
  std::uint64_t size_ = 0;
};

using PhysRange = AddressRange<GuestPhysAddr>;
using VirtRange = AddressRange<GuestVirtAddr>;

/// The smallest page of x86-64, which is also the unit of GuestMemory::next_populated().
inline constexpr std::uint64_t kPageSize = 4096;

}  // namespace vpatch::introspect
