// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest number of probes believed.
inline constexpr std::size_t kMaxKprobes = 65536;

/// What is registered at one address of the kernel's or a module's code: a kprobe, or several that
/// share the place.
struct Kprobe {
  GuestVirtAddr address;      ///< of the probed instruction
  bool post_handler = false;  ///< something runs after the instruction as well
  bool by_ftrace = false;     ///< it is hit through ftrace, not through a breakpoint
  bool disabled = false;      ///< registered, but not armed

  friend bool operator==(const Kprobe&, const Kprobe&) = default;
};

/// Where the kernel keeps its probes; probed once a boot.
struct KprobeLayout {
  GuestVirtAddr table;
  std::uint64_t hlist = 0, address = 0, post_handler = 0, flags = 0, size = 0;  ///< struct kprobe

  /// Errc::not_found when the kernel has no kprobes, or no names of data.
  static Result<KprobeLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// All probes, in no order, read again up to three times when they change meanwhile. Errc::torn
/// when they still do, or make no sense; Errc::corrupt beyond kMaxKprobes.
Result<std::vector<Kprobe>> read_kprobes(const VirtualMemory& memory, const KprobeLayout& layout);

}  // namespace vpatch::introspect
