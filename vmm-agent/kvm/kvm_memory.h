// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "introspect/memory/composite_memory.h"
#include "introspect/memory/guest_memory.h"
#include "vmm-agent/kvm/machine.h"

namespace vpatch::kvm {

/// The RAM of a Machine of this process: private slots are read and written in place,
/// shared ones as MappedMemory, or FileMemory where that refuses. What is populated in a private
/// slot is known from the process's page map.
///
/// One thread at a time; the guest may run meanwhile.
class KvmMemory final : public introspect::GuestMemory {
 public:
  /// Sees the slots there are now. `machine` must outlive this object. Errc::no_memory without
  /// slots, errors of the page map and of the files.
  static introspect::Result<KvmMemory> create(const Machine& machine);

  introspect::Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override {
    return all_.read(address, into);
  }
  void read_many(std::span<introspect::PhysRead> reads) const override { all_.read_many(reads); }
  introspect::Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override {
    return all_.write(address, bytes);
  }
  std::span<const PhysRange> regions() const override { return all_.regions(); }
  introspect::Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override {
    return all_.next_populated(from);
  }
  void forget() override { all_.forget(); }

 private:
  explicit KvmMemory(introspect::CompositeMemory all) : all_(std::move(all)) {}

  introspect::CompositeMemory all_;
};

}  // namespace vpatch::kvm
