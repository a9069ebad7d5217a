// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "introspect/boot/vmcoreinfo_text.h"
#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

/// How far guest memory bears out that a VMCOREINFO text describes the kernel that runs now.
///
/// A reset does not clear RAM and KASLR moves the next kernel, so a rebooted guest keeps the notes
/// of earlier boots until their pages are reused; a guest's user can write anything into pages of
/// his own.
enum class Evidence : std::uint8_t {
  contradicted,  ///< where it says init_uts_ns is, there is no such kernel's name
  unchecked,     ///< it does not say enough to be checked
  image,   ///< a kernel image of this release lies where it says, of this boot or an earlier one
  booted,  ///< and the boot's real-mode page tables in the first MiB lead to that image
};

/// A stable word for each, such as "booted"; for messages and logs.
std::string_view to_string(Evidence evidence);

/// What the first MiB of a guest says about its last boot.
///
/// Every boot of an x86-64 kernel writes a top-level page table below 1 MiB, for CPUs that start or
/// wake (arch/x86/realmode/init.c), at a place that hardly varies, and copies entry 511 of
/// init_top_pgt to it. That entry holds the physical address of a table in the kernel's image,
/// which KASLR moves: it tells the images in memory apart. It is written (early_initcall) before
/// the VMCOREINFO note is (subsys_initcall), and since Linux 5.13 the first MiB is never given to
/// programs of the guest.
class BootEvidence {
 public:
  /// Looks at the populated pages of the first MiB; a page that cannot be read tells nothing.
  static Result<BootEvidence> gather(const GuestMemory& memory);

  /// Weighs one text, with at most two more reads. What cannot be read bears nothing out.
  Evidence weigh(const GuestMemory& memory, const VmcoreinfoText& text) const;

 private:
  std::vector<std::uint64_t> entries_;  // what may be entry 511 of that table; at most 256
};

}  // namespace vpatch::introspect
