// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/file_memory.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// The guest's RAM layout from the monitor's `info mtree -f`: the pieces of the largest RAM block
/// in the address space "memory". Empty when the text holds none. The text comes from QEMU and is
/// still parsed with bounds.
std::vector<introspect::FileRegion> parse_ram_layout(std::string_view mtree);

/// Opens the RAM of a VM on this host for reading. It must be shared memory (memfd or a file); for
/// private memory the error says how to configure it. Outcome::unreachable on any failure.
Result<introspect::FileMemory> open_guest_ram(Domain& domain, const qmp::CallOptions& options);

}  // namespace vpatch
