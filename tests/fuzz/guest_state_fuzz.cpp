// SPDX-License-Identifier: Apache-2.0
// What a guest's agent prints for a look at its state, of any bytes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vmm-agent/guest/guest_state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as characters
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const vpatch::GuestState state = vpatch::parse_guest_state(text);
  static_cast<void>(state.in_transition());
  static_cast<void>(vpatch::parse_pending_tasks(text));
  return 0;
}
