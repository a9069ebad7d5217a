// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect {

/// The address of a member `offset` bytes inside the structure at `base`. Guest pointers may be
/// anything: it wraps, as on the CPU, and whoever reads there finds out.
inline GuestVirtAddr member_at(GuestVirtAddr base, std::uint64_t offset) {
  return GuestVirtAddr(base.value() + offset);
}
/// The structure that has the member at `member`, `offset` bytes inside; wraps too.
inline GuestVirtAddr struct_of(GuestVirtAddr member, std::uint64_t offset) {
  return GuestVirtAddr(member.value() - offset);
}

/// Plain values out of a copy of some bytes of a structure of the guest.
class FieldView {
 public:
  FieldView() = default;
  /// `bytes` start `first` bytes inside the structure.
  explicit FieldView(std::span<const std::byte> bytes, std::uint64_t first = 0)
      : bytes_(bytes), first_(first) {}

  bool has(std::uint64_t offset, std::uint64_t size) const {
    return offset >= first_ && size <= bytes_.size() && offset - first_ <= bytes_.size() - size;
  }

  /// The value at `offset` in the structure; zero outside of the copy.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  T get(std::uint64_t offset) const {
    T value{};
    if (has(offset, sizeof(T))) {
      std::memcpy(&value, bytes_.data() + (offset - first_), sizeof(T));
    }
    return value;
  }

  GuestVirtAddr pointer(std::uint64_t offset) const {
    return GuestVirtAddr(get<std::uint64_t>(offset));
  }

  bool flag(std::uint64_t offset) const { return get<std::uint8_t>(offset) != 0; }

  /// Up to the first NUL, printable; empty outside of the copy.
  std::string text(std::uint64_t offset, std::uint64_t size) const {
    return has(offset, size) ? printable_text(bytes_.subspan(offset - first_, size)) : "";
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t first_ = 0;
};

/// A copy of one structure, and where it was.
class StructCopy {
 public:
  /// `size` is the layout's, never the guest's.
  static Result<StructCopy> read(const VirtualMemory& memory, GuestVirtAddr address,
                                 std::uint64_t size) {
    StructCopy copy;
    copy.address_ = address;
    copy.bytes_.resize(size);
    if (auto done = memory.read(address, copy.bytes_); !done) {
      return std::unexpected(std::move(done).error());
    }
    return copy;
  }

  GuestVirtAddr address() const { return address_; }
  FieldView fields() const { return FieldView(bytes_); }

 private:
  StructCopy() = default;

  GuestVirtAddr address_;
  std::vector<std::byte> bytes_;
};

}  // namespace vpatch::introspect
