// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/list_walk.h"

#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {

Result<std::vector<StructCopy>> read_list(const VirtualMemory& memory, GuestVirtAddr head,
                                          const ListShape& shape) {
  std::vector<StructCopy> entries;
  auto first = read_pointer(memory, head);
  if (!first) {
    return std::unexpected(std::move(first.error()).in_context("read a list's head"));
  }
  GuestVirtAddr before = head;
  GuestVirtAddr node = *first;
  while (node != head) {
    if (entries.size() >= shape.max) {
      return fail(Errc::corrupt, fmt::format("the list at {:#x} has more than {} entries",
                                             head.value(), shape.max));
    }
    auto entry = StructCopy::read(memory, struct_of(node, shape.node), shape.size);
    if (!entry) {
      return fail(Errc::torn,
                  fmt::format("entry {} of the list at {:#x} cannot be read: {}", entries.size(),
                              head.value(), entry.error().what),
                  entry.error().sys_errno);
    }
    const FieldView fields = entry->fields();
    if (fields.pointer(shape.node + 8) != before) {
      return fail(Errc::torn, fmt::format("entry {} of the list at {:#x} does not point back",
                                          entries.size(), head.value()));
    }
    before = node;
    node = fields.pointer(shape.node);
    entries.push_back(*std::move(entry));
  }
  return entries;
}

}  // namespace vpatch::introspect
