// SPDX-License-Identifier: Apache-2.0
// A livepatch file of any bytes, and its signature. Seeds: real modules of the guest images.
#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/patch/signature_check.h"

/// `./dev fuzz` adds real modules.
std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  return {};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) {
    std::memcpy(bytes.data(), data, size);
  }
  static const vpatch::Certificates none;
  static_cast<void>(vpatch::check_signature(bytes, none));
  static_cast<void>(vpatch::parse_livepatch(std::move(bytes), "fuzz.ko"));
  return 0;
}
