// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

void GuestMemory::read_many(std::span<PhysRead> reads) const {
  for (PhysRead& one : reads) {
    one.done = read(one.address, one.into).has_value();
  }
}

Result<void> GuestMemory::write(GuestPhysAddr /*address*/, std::span<const std::byte> /*bytes*/) {
  return fail(Errc::permission, "this memory can only be read");
}

}  // namespace vpatch::introspect
