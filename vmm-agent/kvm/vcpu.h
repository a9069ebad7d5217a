// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include <linux/kvm.h>

#include "introspect/error.h"
#include "introspect/memory/address.h"
#include "introspect/memory/unique_fd.h"
#include "introspect/memory/unique_mapping.h"
#include "introspect/vcpu_registers.h"

namespace vpatch::kvm {

/// One vCPU of a Machine. All errors are Errc::io or Errc::permission with the errno of the ioctl.
///
/// Threads: one at a time, except for request_exit(). KVM wants run() to be called from one thread
/// only; the others may be called from any thread while no run() is under way.
class Vcpu {
 public:
  /// `shared` is KVM's mapping of `fd`. Made by Machine::add_vcpu().
  Vcpu(std::uint32_t index, introspect::UniqueFd fd, introspect::UniqueMapping shared);

  std::uint32_t index() const { return index_; }

  introspect::Result<kvm_regs> regs() const;
  introspect::Result<void> set_regs(const kvm_regs& regs);
  introspect::Result<kvm_sregs> sregs() const;
  introspect::Result<void> set_sregs(const kvm_sregs& sregs);

  /// What introspection needs of them. `halted` is only told where KVM has the interrupt
  /// controller.
  introspect::Result<introspect::VcpuRegisters> registers() const;

  /// Where the vCPU's own page tables put an address; nothing when it is not mapped. KVM marks the
  /// entries it walks as accessed, as the CPU does, and does not look whether the address is
  /// canonical.
  introspect::Result<std::optional<introspect::GuestPhysAddr>> translate(
      introspect::GuestVirtAddr address) const;

  /// Runs the guest until it needs the caller (the exit, which stays valid until the next run()) or
  /// is interrupted (nullptr).
  introspect::Result<const kvm_run*> run();

  /// Makes run() return at once, the next one too, until called with false. It does not interrupt a
  /// run() in the guest: that takes a signal. From any thread.
  void request_exit(bool wanted);

 private:
  kvm_run* shared() const;

  std::uint32_t index_;
  introspect::UniqueFd fd_;
  introspect::UniqueMapping shared_;  // struct kvm_run
};

}  // namespace vpatch::kvm
