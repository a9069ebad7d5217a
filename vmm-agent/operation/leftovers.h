// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "introspect/kernel/livepatch.h"
#include "introspect/memory/virtual_memory.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Whether the function at `address` begins with the call that ftrace puts there while something is
/// hooked into it, where a 5-byte nop is otherwise: at its start, or after the 4 bytes of its
/// endbr64, which the kernel makes a nop too in functions whose address nobody takes.
introspect::Result<bool> begins_with_call(const introspect::VirtualMemory& memory,
                                          introspect::GuestVirtAddr address);

/// The functions that any livepatch changes, where their code is in memory.
std::vector<ChangedFunction> changed_functions(const introspect::LivepatchState& state);

/// What the patches `gone` have left behind, in the guest as `state` and `memory` show it.
/// `before`: what was changed while they were in force. `unloaded`: modules that are to be gone.
Leftovers find_leftovers(const introspect::VirtualMemory& memory, const MemoryState& state,
                         std::span<const ChangedFunction> before, std::span<const std::string> gone,
                         std::span<const std::string> unloaded);

}  // namespace vpatch
