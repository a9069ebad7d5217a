// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "introspect/error.h"
#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// One of many reads that are made together.
struct VirtRead {
  GuestVirtAddr address;
  std::span<std::byte> into;
  bool done = false;  ///< set by read_many(); when false the bytes of `into` mean nothing
};

/// The kernel's virtual address space as everything above page tables sees it. The one real
/// implementation is AddressSpace; tests put sparse fakes in its place.
///
/// A running guest changes under the reader, and a hostile one writes whatever it likes: what comes
/// out is copied once, and the copy is checked. One thread at a time.
class VirtualMemory {
 public:
  VirtualMemory() = default;
  virtual ~VirtualMemory() = default;

  /// Fills `into` from `address` on, wholly or not at all: after an error its bytes mean nothing.
  ///
  /// Errc::out_of_range when a byte is not mapped, or is mapped to what is no RAM; other codes from
  /// the memory below.
  virtual Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const = 0;

  /// Makes all of `reads` in as few system calls as possible; one failing does not stop the others.
  virtual void read_many(std::span<VirtRead> reads) const;

 protected:
  VirtualMemory(const VirtualMemory&) = default;
  VirtualMemory& operator=(const VirtualMemory&) = default;
  VirtualMemory(VirtualMemory&&) = default;
  VirtualMemory& operator=(VirtualMemory&&) = default;
};

/// Reads a plain value, little-endian as x86-64 has it.
template <class T>
  requires std::is_trivially_copyable_v<T>
Result<T> read_value(const VirtualMemory& memory, GuestVirtAddr address) {
  T value{};
  if (auto done = memory.read(address, std::as_writable_bytes(std::span(&value, 1))); !done) {
    return std::unexpected(std::move(done).error());
  }
  return value;
}

/// Reads a pointer, which may be anything.
Result<GuestVirtAddr> read_pointer(const VirtualMemory& memory, GuestVirtAddr address);

/// Reads the text at `address` up to its NUL, at most `max` bytes (1 to 4096); a longer one is cut
/// there. Bytes that are not printable ASCII become '?'.
Result<std::string> read_text(const VirtualMemory& memory, GuestVirtAddr address, std::size_t max);

/// `bytes` up to the first NUL as text; bytes that are not printable ASCII become '?'.
std::string printable_text(std::span<const std::byte> bytes);

}  // namespace vpatch::introspect
