// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vpatch::introspect {

/// Stores `bytes` at `to`, in guest memory of this process that the guest may read meanwhile. An
/// aligned word of 4 or 8 bytes is one store, with release order: who sees it sees what was stored
/// before. Anything else may be seen in part.
inline void store_bytes(std::byte* to, std::span<const std::byte> bytes) {
  const auto one_store = [&]<class Word>(Word word) {
    std::memcpy(&word, bytes.data(), sizeof(word));
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): guest memory is no C++ object
    std::atomic_ref(*reinterpret_cast<Word*>(to)).store(word, std::memory_order_release);
  };
  const auto aligned = [&](std::size_t size) {
    return bytes.size() == size && reinterpret_cast<std::uintptr_t>(to) % size == 0;
  };
  if (aligned(sizeof(std::uint64_t))) {
    one_store(std::uint64_t{});
  } else if (aligned(sizeof(std::uint32_t))) {
    one_store(std::uint32_t{});
  } else {
    std::memcpy(to, bytes.data(), bytes.size());
  }
}

}  // namespace vpatch::introspect
