// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect::testing {

/// Writes the links of a circular list (struct list_head): its head, and its nodes in order.
inline void put_list(SparseVirtualMemory& memory, std::uint64_t head,
                     const std::vector<std::uint64_t>& nodes) {
  std::uint64_t before = head;
  for (const std::uint64_t node : nodes) {
    memory.put(GuestVirtAddr(before), node);
    memory.put(GuestVirtAddr(node + 8), before);
    before = node;
  }
  memory.put(GuestVirtAddr(before), head);
  memory.put(GuestVirtAddr(head + 8), before);
}

/// A guest that runs: `before_read` is told the address of every read just before it is made, and
/// may change the memory.
class MovingMemory final : public VirtualMemory {
 public:
  explicit MovingMemory(SparseVirtualMemory& memory) : memory_(&memory) {}

  std::function<void(GuestVirtAddr)> before_read;

  Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override {
    if (before_read) {
      before_read(address);
    }
    return memory_->read(address, into);
  }

 private:
  SparseVirtualMemory* memory_;
};

}  // namespace vpatch::introspect::testing
