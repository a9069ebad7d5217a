// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>

#include "introspect/memory/guest_memory.h"
#include "introspect/memory/virtual_memory.h"
#include "tests/fuzz/fuzz_input.h"

namespace vpatch::fuzz {

using introspect::GuestPhysAddr;
using introspect::GuestVirtAddr;

/// A part of the fake guest's addresses that exists; at most 64 KiB.
struct Window {
  std::uint64_t base = 0;
  std::size_t size = 0;
};

/// Guest-virtual memory that consists of some windows, filled by the input. The input has, in
/// front, a list of pointers that are put into the windows and lead into the windows, so that
/// chance need not find an address of 64 bits; some of them only after a number of reads, as in a
/// guest that runs. Then each window's bytes after their count; zeros follow.
class FuzzMemory final : public introspect::VirtualMemory {
 public:
  FuzzMemory(std::span<const Window> windows, Input& input)
      : windows_(windows.begin(), windows.end()) {
    const auto count = input.take<std::uint8_t>() % 32U;
    moves_after_ = input.take<std::uint8_t>();
    for (unsigned number = 0; number < count; ++number) {
      patches_.push_back(input.take<Patch>());
    }
    for (const Window& window : windows_) {
      const auto bytes = input.take_bytes(input.take<std::uint16_t>());
      contents_.emplace_back(window.size);
      std::ranges::copy(bytes.first(std::min(bytes.size(), window.size)), contents_.back().begin());
    }
    apply(false);
  }

  introspect::Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override {
    if (++reads_ == moves_after_) {
      apply(true);
    }
    for (std::size_t index = 0; index < windows_.size(); ++index) {
      const std::uint64_t offset = address.value() - windows_[index].base;  // wraps below it
      const auto& bytes = contents_[index];
      if (offset <= bytes.size() && into.size() <= bytes.size() - offset) {
        std::ranges::copy(std::span(bytes).subspan(offset, into.size()), into.begin());
        return {};
      }
    }
    return introspect::fail(introspect::Errc::out_of_range, "not mapped in the fake");
  }

 private:
  struct Patch {
    std::uint8_t window, target;  ///< the highest bit of `window`: only after some reads
    std::uint16_t at;             ///< in words
    std::uint16_t to;
  };

  void apply(bool late) const {
    for (const Patch& patch : patches_) {
      auto& bytes = contents_[(patch.window & 0x7fU) % windows_.size()];
      const Window& target = windows_[patch.target % windows_.size()];
      const std::size_t at = std::size_t{patch.at} * 8;
      if ((patch.window >= 0x80) == late && at + 8 <= bytes.size()) {
        const std::uint64_t value = target.base + patch.to % std::max<std::size_t>(target.size, 1);
        std::memcpy(bytes.data() + at, &value, sizeof(value));
      }
    }
  }

  std::vector<Window> windows_;
  mutable std::vector<Bytes> contents_;
  std::vector<Patch> patches_;
  unsigned moves_after_ = 0;
  mutable unsigned reads_ = 0;
};

/// The seed that FuzzMemory makes what `memory` holds in the windows of.
inline void put_memory(Output& output, std::span<const Window> windows,
                       const introspect::VirtualMemory& memory) {
  output.put<std::uint8_t>(0).put<std::uint8_t>(0);
  for (const Window& window : windows) {
    Bytes bytes(window.size);
    std::size_t used = 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      const auto one = std::span(bytes).subspan(at, 1);
      if (memory.read(GuestVirtAddr(window.base + at), one) && one[0] != std::byte{0}) {
        used = at + 1;
      }
    }
    output.put(static_cast<std::uint16_t>(used)).put_bytes(std::span(bytes).first(used));
  }
}

/// Guest RAM from 0 on, filled by the input page by page: each page's number, a count, its bytes.
/// Pages not named read as zeros, and are holes.
class FuzzRam final : public introspect::GuestMemory {
 public:
  static constexpr std::size_t kPages = 64;

  explicit FuzzRam(Input& input) : bytes_(kPages * introspect::kPageSize) {
    while (!input.rest().empty()) {
      const std::size_t page = input.take<std::uint8_t>() % kPages;
      const auto bytes =
          input.take_bytes(input.take<std::uint16_t>() % (introspect::kPageSize + 1));
      std::ranges::copy(bytes,
                        bytes_.begin() + static_cast<std::ptrdiff_t>(page * introspect::kPageSize));
      populated_.at(page) = true;
    }
  }

  introspect::Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override {
    if (address.value() > bytes_.size() || into.size() > bytes_.size() - address.value()) {
      return introspect::fail(introspect::Errc::out_of_range, "no RAM in the fake");
    }
    std::ranges::copy(std::span(bytes_).subspan(address.value(), into.size()), into.begin());
    return {};
  }
  std::span<const introspect::PhysRange> regions() const override { return regions_; }
  introspect::Result<std::optional<introspect::PhysRange>> next_populated(
      GuestPhysAddr from) const override {
    for (std::uint64_t page = from.value() / introspect::kPageSize; page < kPages; ++page) {
      if (populated_.at(page)) {
        return introspect::PhysRange::make(GuestPhysAddr(page * introspect::kPageSize),
                                           introspect::kPageSize);
      }
    }
    return std::nullopt;
  }

 private:
  Bytes bytes_;
  std::array<bool, kPages> populated_{};
  std::array<introspect::PhysRange, 1> regions_ = {
      *introspect::PhysRange::make(GuestPhysAddr(0), kPages* introspect::kPageSize)};
};

}  // namespace vpatch::fuzz
