// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

/// The bytes of each page that a scan looks at: `size` (1 to 4096) from `offset` on, not past the
/// page's end. A scan for a signature costs little when it asks for little.
struct PagePart {
  std::size_t offset = 0;
  std::size_t size = kPageSize;
};

/// Where a page starts, and the part of it that was asked for. The bytes are a copy, good only
/// during the call that is given them.
using PageVisitor = std::function<void(GuestPhysAddr, std::span<const std::byte>)>;

/// What a scan could not see.
struct ScanGaps {
  std::uint64_t unreadable_pages = 0;
  std::optional<Error> first_error;  ///< for the first of them
};

/// Shows the `part` of each populated page of `within` to `visit` once, in rising order, holes left
/// out.
///
/// A page that cannot be read is counted and passed over: one bad page must not hide the rest. Only
/// a refusal (Errc::permission) and a failing walk over the data end the scan with an error.
Result<ScanGaps> scan_pages(const GuestMemory& memory, PhysRange within, PagePart part,
                            const PageVisitor& visit);

}  // namespace vpatch::introspect
