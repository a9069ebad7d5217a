// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "introspect/error.h"
#include "introspect/memory/address.h"
#include "introspect/memory/unique_fd.h"
#include "introspect/memory/unique_mapping.h"
#include "vmm-agent/kvm/vcpu.h"

namespace vpatch::kvm {

using introspect::GuestPhysAddr;
using introspect::PhysRange;

/// One memory slot: guest RAM and where this process has it.
struct Slot {
  PhysRange guest;
  introspect::UniqueMapping bytes;  ///< as many as `guest` has
  introspect::UniqueFd file;        ///< of a shared slot, with a position of its own; else none
  std::uint64_t file_offset = 0;
};

/// A virtual machine of this process with RAM and vCPUs and no devices, made with the KVM API.
///
/// Not thread-safe; the vCPUs it gives are independent of it and of each other. It must outlive
/// them, or their next run() fails.
class Machine {
 public:
  /// Errc::permission when /dev/kvm may not be opened, Errc::io when there is none or it fails.
  static introspect::Result<Machine> create();

  /// Adds private RAM, all zeros, of which only what the guest touches takes host memory. `start`
  /// and `size` are multiples of 4096, in bytes. Errc::out_of_range when they are not or overlap
  /// what is there, Errc::io from the host.
  introspect::Result<void> add_memory(GuestPhysAddr start, std::uint64_t size);

  /// Adds RAM shared with the file behind `fd` (a memfd, say), which stays the caller's and must
  /// reach to `offset` + `size`: a shorter one is Errc::out_of_range.
  introspect::Result<void> add_memory(GuestPhysAddr start, std::uint64_t size, int fd,
                                      std::uint64_t offset);

  /// RAM as the guest sees it, to be filled by the caller; nothing when it is not wholly in one
  /// slot. Valid as long as this object.
  std::optional<std::span<std::byte>> bytes(GuestPhysAddr start, std::uint64_t size);

  /// In the order they were added.
  std::span<const Slot> slots() const { return slots_; }

  /// A vCPU in its reset state, with all CPU features KVM can give.
  introspect::Result<Vcpu> add_vcpu();

 private:
  Machine(introspect::UniqueFd kvm, introspect::UniqueFd vm, std::size_t run_size);
  introspect::Result<PhysRange> free_range(GuestPhysAddr start, std::uint64_t size) const;
  introspect::Result<void> add_slot(Slot slot);

  introspect::UniqueFd kvm_;
  introspect::UniqueFd vm_;
  std::size_t run_size_;  // bytes shared with KVM for each vCPU
  std::vector<Slot> slots_;
  std::uint32_t vcpus_ = 0;
};

}  // namespace vpatch::kvm
