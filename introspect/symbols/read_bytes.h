// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect {

/// Reads a table whose end is not known: from `address` on `most` bytes, or up to the first page
/// that cannot be read. Fewer than `least` is the error of that page.
Result<std::vector<std::byte>> read_bytes(const VirtualMemory& memory, GuestVirtAddr address,
                                          std::size_t least, std::size_t most);

}  // namespace vpatch::introspect
