// SPDX-License-Identifier: Apache-2.0
// The monitor's description of a guest's RAM, of any bytes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vmm-agent/domain/guest_ram.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as characters
  static_cast<void>(vpatch::parse_ram_layout({reinterpret_cast<const char*>(data), size}));
  return 0;
}
