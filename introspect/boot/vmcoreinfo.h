// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "introspect/boot/boot_evidence.h"
#include "introspect/boot/vmcoreinfo_text.h"
#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

/// What a guest's kernel says of itself in its VMCOREINFO note, and how sure that is.
struct VmcoreInfo {
  GuestPhysAddr note;  ///< where the note starts
  VmcoreinfoText text;
  Evidence evidence{};  ///< never Evidence::contradicted
};

/// Finds the note of the running kernel by looking at each populated page once. No device, symbol
/// file or command line is needed; holes are not touched. Costs one short read of each populated
/// page.
///
/// The note is an ELF note at the start of a page: n_namesz 11, n_descsz, n_type 0, the name
/// "VMCOREINFO" at byte 12, the text at byte 24. Pages that look like it but hold no valid text, or
/// whose text memory contradicts, are passed over and the scan goes on.
///
/// Choice: of the notes left, those with the strongest Evidence count, the others are stale or
/// forged. If those say the same in all that VmcoreinfoText holds, the one at the lowest address is
/// returned. If not, the answer is Errc::ambiguous naming two: guessing here would patch the wrong
/// kernel.
///
/// While a guest reboots (from its reset until the new kernel has written its real-mode tables)
/// memory still tells of the kernel before: whoever must know for sure asks again later.
///
/// Errors: Errc::not_found when no page looks like the note; Errc::corrupt, Errc::torn or
/// Errc::out_of_range when some do and none is valid (what was wrong with the first);
/// Errc::ambiguous; Errc::io when none was found and parts could not be read; any error of the
/// memory's walk.
///
/// Threads: keeps no state; as safe as `memory`.
Result<VmcoreInfo> find_vmcoreinfo(const GuestMemory& memory);

/// Reads the note at an address where find_vmcoreinfo() has once found it, and weighs it anew. The
/// errors are those of one note: Errc::not_found when none is there, Errc::corrupt for one that
/// memory contradicts.
Result<VmcoreInfo> read_vmcoreinfo_at(const GuestMemory& memory, GuestPhysAddr note);

}  // namespace vpatch::introspect
