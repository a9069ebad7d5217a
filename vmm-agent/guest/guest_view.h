// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "introspect/guest/guest_kernel.h"
#include "introspect/memory/guest_memory.h"
#include "introspect/vcpu_registers.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/guest_memory.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/boot_cache.h"

namespace vpatch {

/// A guest seen from the outside: its memory, its kernel as that memory explains it, and its vCPUs.
/// Nothing in the guest takes part, and looking changes nothing in it: only write() does, and
/// before its first call nothing is held through which the guest could be changed. One thread at a
/// time.
class GuestView {
 public:
  /// Opens the memory of a VM on this host and learns its kernel, from `cache` where that still
  /// holds. A guest that is just booting is waited for, some seconds. `domain` must outlive it.
  /// Outcome::unreachable with the reason and the next step when it cannot be read.
  static Result<GuestView> open(Domain& domain, const BootCache& cache,
                                const qmp::CallOptions& options);

  /// The same from an ELF core that `virsh dump --memory-only` or dump-guest-memory has written.
  static Result<GuestView> open_core(const std::filesystem::path& path);

  /// The same from any memory that stands still, with the registers of its vCPUs.
  static Result<GuestView> open_memory(std::unique_ptr<introspect::GuestMemory> memory,
                                       std::vector<introspect::VcpuRegisters> registers,
                                       std::string name,
                                       const std::optional<introspect::BootFacts>& known = {});

  introspect::GuestKernel& kernel() const { return *kernel_; }
  MemoryBackend backend() const { return backend_; }
  const std::string& name() const { return name_; }
  /// How long learning the kernel took: cold, or verified from the cache.
  std::chrono::microseconds bootstrap_time() const { return bootstrap_time_; }
  /// Nothing can move in what is looked at: it is a core file.
  bool is_still() const { return backend_ == MemoryBackend::core; }

  /// Does without the domain from here on: memory goes on to be read, registers() fails. The
  /// monitor of a plain QEMU takes one client at a time, and is then free for others.
  void let_go_of_domain() { domain_ = nullptr; }

  /// The registers of all vCPUs, asked for once. Unordered in time against memory unless paused.
  Result<std::vector<introspect::VcpuRegisters>> registers(const qmp::CallOptions& options) const;

  /// Before another look after a while: forgets what the guest may have changed, and learns its
  /// kernel anew when it has rebooted.
  Result<void> refresh(const qmp::CallOptions& options);

  /// Writes into the kernel's memory, where its page tables (read anew) map it writable; not across
  /// the end of a 4 KiB page. See GuestMemory::write() for what order the guest sees it in.
  /// Outcome::unreachable when that cannot be, and nothing was written.
  Result<void> write(introspect::GuestVirtAddr address, std::span<const std::byte> bytes);

  /// Writes what was learned to the cache, where it is new.
  void keep(const BootCache& cache) const;

 private:
  GuestView(Domain* domain, std::string name, OpenedMemory opened);
  Result<void> attach(const std::optional<introspect::BootFacts>& known,
                      const qmp::CallOptions& options);

  Domain* domain_;  // null for a core file, and once let go of
  std::string identity_;
  std::string name_;
  std::unique_ptr<introspect::GuestMemory> memory_;
  MemoryBackend backend_;
  introspect::UniqueFd vmm_;
  std::unique_ptr<introspect::GuestKernel> kernel_;
  std::vector<introspect::VcpuRegisters> core_registers_;
  std::optional<introspect::BootFacts> kept_;  // what the cache holds
  std::chrono::microseconds bootstrap_time_{0};
};

/// Turns a failed look into an error for the user, with the next step.
Error from_introspect(const introspect::Error& error);

}  // namespace vpatch
