// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/guest_memory.h"

namespace vpatch::introspect {

void GuestMemory::read_many(std::span<PhysRead> reads) const {
  for (PhysRead& one : reads) {
    one.done = read(one.address, one.into).has_value();
  }
}

}  // namespace vpatch::introspect
