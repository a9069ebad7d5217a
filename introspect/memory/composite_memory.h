// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

/// Guest RAM that several backends hold parts of, such as one file for each NUMA node.
///
/// One thread at a time.
class CompositeMemory final : public GuestMemory {
 public:
  /// Errc::no_memory without parts, Errc::out_of_range when two parts claim the same RAM.
  static Result<CompositeMemory> create(std::vector<std::unique_ptr<GuestMemory>> parts);

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override;
  void read_many(std::span<PhysRead> reads) const override;
  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override;
  std::span<const PhysRange> regions() const override { return ranges_; }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override;
  void forget() override;

 private:
  explicit CompositeMemory(std::vector<std::unique_ptr<GuestMemory>> parts);
  /// The index of the region that holds `address`; nothing when there is none.
  std::optional<std::size_t> region_of(GuestPhysAddr address) const;

  std::vector<std::unique_ptr<GuestMemory>> parts_;
  std::vector<PhysRange> ranges_;    // in rising order
  std::vector<std::size_t> owners_;  // the part that has it, one for each of ranges_
};

}  // namespace vpatch::introspect
