// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <type_traits>

#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect::testing {

/// Guest-virtual memory for tests: pages exist once something is written to them, all else is not
/// mapped; chosen pages can be made to fail.
class SparseVirtualMemory final : public VirtualMemory {
 public:
  void write(GuestVirtAddr address, std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      const std::uint64_t where = address.value() + at;
      pages_[where / kPageSize][where % kPageSize] = bytes[at];
    }
  }

  template <class T>
    requires std::is_trivially_copyable_v<T>
  void put(GuestVirtAddr address, const T& value) {
    write(address, std::as_bytes(std::span(&value, 1)));
  }

  /// With its NUL.
  void put_text(GuestVirtAddr address, std::string_view text) {
    write(address, std::as_bytes(std::span(text)));
    put(GuestVirtAddr(address.value() + text.size()), '\0');
  }

  /// Makes every read that touches the page of `address` fail, until heal().
  void fail_at(GuestVirtAddr address) { bad_.insert(address.value() / kPageSize); }
  void heal() { bad_.clear(); }

  Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override {
    ++reads;
    for (std::size_t at = 0; at < into.size(); ++at) {
      const std::uint64_t where = address.value() + at;
      const auto page = pages_.find(where / kPageSize);
      if (where < address.value() || page == pages_.end() || bad_.contains(where / kPageSize)) {
        return fail(Errc::out_of_range, "not mapped in the fake");
      }
      into[at] = page->second[where % kPageSize];
    }
    return {};
  }

  mutable std::size_t reads = 0;

 private:
  std::map<std::uint64_t, std::array<std::byte, kPageSize>> pages_;
  std::set<std::uint64_t> bad_;
};

}  // namespace vpatch::introspect::testing
