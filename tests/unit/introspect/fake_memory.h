// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

/// Sparse guest memory made of the pages a test has written. It fails on chosen pages, can change
/// between two reads, and writes down what was read. Not thread-safe.
class FakeMemory final : public GuestMemory {
 public:
  /// Regions as {start, size}, page-aligned and in rising order.
  explicit FakeMemory(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& regions);

  void write(std::uint64_t address, std::span<const std::byte> bytes);
  void write(std::uint64_t address, std::string_view bytes);
  void write_word(std::uint64_t address, std::uint64_t value);

  /// From now on every read that touches the page of `address` fails.
  void fault(std::uint64_t address, Errc code);
  /// From now on next_populated() fails.
  void fault_walk(Errc code) { walk_fault_ = code; }
  /// Called before each read with its address; may write.
  void before_read(std::function<void(GuestPhysAddr)> hook) { hook_ = std::move(hook); }

  /// The pages that reads have touched, with how often.
  const std::map<std::uint64_t, int>& touched() const { return touched_; }
  bool populated(std::uint64_t page) const { return pages_.contains(page); }

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override;
  /// Refuses pages that no test has written.
  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override;
  std::span<const PhysRange> regions() const override { return regions_; }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override;

 private:
  using Page = std::array<std::byte, kPageSize>;

  const PhysRange* region_of(std::uint64_t address) const;

  std::vector<PhysRange> regions_;
  std::map<std::uint64_t, Page> pages_;
  std::map<std::uint64_t, Errc> faults_;
  std::optional<Errc> walk_fault_;
  std::function<void(GuestPhysAddr)> hook_;
  mutable std::map<std::uint64_t, int> touched_;
};

}  // namespace vpatch::introspect
