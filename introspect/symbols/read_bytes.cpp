// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/read_bytes.h"

#include <algorithm>

namespace vpatch::introspect {

Result<std::vector<std::byte>> read_bytes(const VirtualMemory& memory, GuestVirtAddr address,
                                          std::size_t least, std::size_t most) {
  std::vector<std::byte> bytes(most);
  if (memory.read(address, bytes)) {
    return bytes;
  }
  std::size_t done = 0;
  while (done < most) {
    const auto here = address.plus(done);
    if (!here) {
      break;
    }
    const auto in_page = static_cast<std::size_t>(kPageSize - here->value() % kPageSize);
    const auto piece = std::span(bytes).subspan(done, std::min(in_page, most - done));
    if (auto read = memory.read(*here, piece); !read) {
      if (done < least) {
        return std::unexpected(std::move(read).error());
      }
      break;
    }
    done += piece.size();
  }
  if (done < least) {
    return fail(Errc::out_of_range, "a table runs past the end of the address space");
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace vpatch::introspect
