// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/virtual_memory.h"

#include <algorithm>
#include <array>

namespace vpatch::introspect {

void VirtualMemory::read_many(std::span<VirtRead> reads) const {
  for (VirtRead& one : reads) {
    one.done = read(one.address, one.into).has_value();
  }
}

Result<GuestVirtAddr> read_pointer(const VirtualMemory& memory, GuestVirtAddr address) {
  const auto value = read_value<std::uint64_t>(memory, address);
  if (!value) {
    return std::unexpected(value.error());
  }
  return GuestVirtAddr(*value);
}

std::string printable_text(std::span<const std::byte> bytes) {
  const auto end = std::ranges::find(bytes, std::byte{0});
  std::string text;
  text.reserve(static_cast<std::size_t>(end - bytes.begin()));
  for (auto byte = bytes.begin(); byte != end; ++byte) {
    const char letter = static_cast<char>(*byte);
    text.push_back(letter >= ' ' && letter <= '~' ? letter : '?');
  }
  return text;
}

Result<std::string> read_text(const VirtualMemory& memory, GuestVirtAddr address, std::size_t max) {
  std::string text;
  std::array<std::byte, 256> buffer{};
  while (text.size() < max) {
    // Never across the end of a page: the text may end just before one that is not mapped.
    const auto in_page = static_cast<std::size_t>(kPageSize - address.value() % kPageSize);
    const auto piece =
        std::span(buffer).first(std::min({buffer.size(), in_page, max - text.size()}));
    if (auto done = memory.read(address, piece); !done) {
      return std::unexpected(std::move(done).error());
    }
    const std::string part = printable_text(piece);
    text += part;
    const auto next = address.plus(piece.size());
    if (part.size() < piece.size() || !next) {
      break;
    }
    address = *next;
  }
  return text;
}

}  // namespace vpatch::introspect
