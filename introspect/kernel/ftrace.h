// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// Whether the kernel's function tracer, which redirects patched functions, takes new work.
enum class FtraceState : std::uint8_t {
  on,
  off,   ///< the sysctl kernel.ftrace_enabled is 0
  dead,  ///< ftrace has found trouble in itself and shut down, until the next boot
};

/// Where the kernel keeps that; probed once a boot.
struct FtraceLayout {
  GuestVirtAddr enabled;                  ///< int ftrace_enabled
  std::optional<GuestVirtAddr> disabled;  ///< int ftrace_disabled

  static Result<FtraceLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

Result<FtraceState> read_ftrace(const VirtualMemory& memory, const FtraceLayout& layout);

}  // namespace vpatch::introspect
