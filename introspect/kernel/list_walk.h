// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "introspect/kernel/struct_copy.h"
#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect {

/// How often what reads lists looks again when they change under it.
inline constexpr int kTornRetries = 3;

/// The structures on one list of the kernel (struct list_head).
struct ListShape {
  std::uint64_t node = 0;  ///< offset of their list_head
  std::uint64_t size = 0;  ///< how much of each is copied, from its start; holds the list_head
  std::size_t max = 0;     ///< the most that are believed
};

/// Copies them in list order, one read each. The list is believed only when every link back fits
/// the link forth, which also rules out cycles: Errc::torn when one does not, or when an entry
/// cannot be read; Errc::corrupt when there are more than `max`.
Result<std::vector<StructCopy>> read_list(const VirtualMemory& memory, GuestVirtAddr head,
                                          const ListShape& shape);

/// Calls `look` until it does not return Errc::torn, kTornRetries times at most.
template <class Look>
auto retry_torn(const Look& look) {
  auto seen = look();
  for (int retry = 1; retry < kTornRetries && !seen && seen.error().code == Errc::torn; ++retry) {
    seen = look();
  }
  return seen;
}

}  // namespace vpatch::introspect
