// SPDX-License-Identifier: Apache-2.0
// A file of the boot cache, of any bytes.
#include <cstdlib>

#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/guest/boot_cache.h"

std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  using vpatch::introspect::GuestVirtAddr;
  vpatch::introspect::BootFacts facts;
  facts.note = vpatch::introspect::GuestPhysAddr(0x1866000);
  facts.text.release = "6.1.0-56-cloud-amd64";
  facts.text.build_id = "0123456789abcdef";
  facts.text.kernel_offset = 0x1c00000;
  facts.text.phys_base = -4096;
  facts.text.symbols.emplace("_stext", GuestVirtAddr(0xffffffff81000000));
  facts.boot_stamp = 12345;
  facts.members.emplace("task_struct pid", vpatch::introspect::Member{128, 32, 1});
  facts.members.emplace("task_struct none", std::nullopt);
  facts.sizes.emplace("module", 832);
  facts.enumerators.emplace("MOD_TEXT", -1);
  facts.symbols.emplace("prb", 0xffffffff82000000);
  return {to_bytes(vpatch::to_text(facts)), to_bytes(vpatch::to_text({}))};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vpatch::fuzz;
  if (const auto facts = vpatch::parse_boot_facts(text_of(bytes_of(data, size)))) {
    // What was read is written and read again as the same.
    if (vpatch::parse_boot_facts(vpatch::to_text(*facts)) != *facts) {
      std::abort();
    }
  }
  return 0;
}
