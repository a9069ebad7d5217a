// SPDX-License-Identifier: Apache-2.0
// A livepatch file of any bytes. Seeds: real modules of the guest images.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vmm-agent/patch/livepatch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) {
    std::memcpy(bytes.data(), data, size);
  }
  static_cast<void>(vpatch::parse_livepatch(std::move(bytes), "fuzz.ko"));
  return 0;
}
