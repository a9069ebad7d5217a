// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "introspect/boot/boot_evidence.h"
#include "introspect/guest/boot_facts.h"
#include "introspect/kernel/cpus.h"
#include "introspect/kernel/ftrace.h"
#include "introspect/kernel/health.h"
#include "introspect/kernel/kernel_log.h"
#include "introspect/kernel/kprobes.h"
#include "introspect/kernel/livepatch.h"
#include "introspect/kernel/modules.h"
#include "introspect/kernel/tasks.h"
#include "introspect/memory/address_space.h"
#include "introspect/stacks/orc.h"
#include "introspect/stacks/unwinder.h"

namespace vpatch::introspect {

/// Where one kernel keeps what introspection reads. What a kernel may lack, or have in a form not
/// known here, carries the reason instead.
struct KernelLayouts {
  CpuLayout cpus;
  TaskLayout tasks;
  ModuleLayout modules;
  Result<HealthLayout> health;
  Result<LivepatchLayout> livepatch;
  Result<LogLayout> log;
  Result<OrcFormat> orc;
  Result<UnwindLayout> unwind;
  Result<KprobeLayout> kprobes;
  Result<FtraceLayout> ftrace;
};

/// One boot of a guest's kernel, explained from its memory alone:
/// VMCOREINFO note -> page tables and kallsyms -> BTF -> layouts.
///
/// One thread at a time. The memory given must outlive it. When the guest reboots, what is read
/// through this object makes no sense any more; still_running() tells.
class GuestKernel {
 public:
  /// Learns all from guest memory, or verifies `known` of an earlier look at the same guest: facts
  /// of another boot are not used. Errors of find_vmcoreinfo(); Errc::permission for memory that
  /// the guest encrypts; Errc::not_found for a kernel without BTF or kallsyms.
  static Result<std::unique_ptr<GuestKernel>> attach(const GuestMemory& memory,
                                                     std::optional<BootFacts> known = {});

  GuestKernel(const GuestKernel&) = delete;
  GuestKernel& operator=(const GuestKernel&) = delete;

  const VmcoreinfoText& info() const { return facts_->text; }
  const VirtualMemory& memory() const { return space_; }
  /// The same as page tables: where an address lies in guest RAM.
  const AddressSpace& space() const { return space_; }
  const KernelNames& names() const { return *names_; }
  const KernelLayouts& layouts() const { return *layouts_; }
  /// All that may be kept for the next attach().
  const BootFacts& facts() const { return *facts_; }
  /// Whether attach() could use what it was given.
  bool from_cache() const { return from_cache_; }

  /// Whether memory still holds the kernel this object describes. Errc::torn when it does not.
  Result<void> still_running() const;

  /// Forgets page tables that were read: each new look starts with it.
  void forget_pages() { space_.forget(); }

  /// The ORC tables of the kernel and of `modules`, kept as long as the modules stay the same; null
  /// when this kernel's stacks cannot be walked. Good until the next call.
  const OrcTables* orc_tables(std::span<const Module> modules) const;

 private:
  GuestKernel(const GuestMemory& memory, std::unique_ptr<BootFacts> facts, AddressSpace space);
  static Result<std::unique_ptr<GuestKernel>> build(const GuestMemory& memory, BootFacts facts);
  Result<void> probe();
  Result<std::uint64_t> read_boot_stamp() const;
  std::vector<OrcTableLocation> core_orc() const;

  const GuestMemory* guest_;
  std::unique_ptr<BootFacts> facts_;
  AddressSpace space_;
  std::unique_ptr<KernelNames> names_;
  std::unique_ptr<const KernelLayouts> layouts_;
  bool from_cache_ = false;
  mutable std::vector<OrcTableLocation> orc_locations_;  // what orc_ was made for
  mutable std::vector<std::string> orc_builds_;
  mutable std::optional<OrcTables> orc_;
};

/// The livepatch core's state, as read_livepatch() and read_transition() of a layout; the reason
/// why this kernel's is not known, where it is not.
Result<LivepatchState> read_livepatch(const GuestKernel& kernel);
Result<TransitionNow> read_transition(const GuestKernel& kernel);

}  // namespace vpatch::introspect
