// SPDX-License-Identifier: Apache-2.0
// Where the host has a guest's RAM: the monitor's `info mtree -f` and the text of /proc/PID/maps,
// of any bytes.
#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/domain/guest_memory.h"

std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  return {to_bytes(
              "m"
              "FlatView #0\n"
              " AS \"memory\", root: system\n"
              " AS \"cpu-memory-0\", root: system\n"
              " Root memory region: system\n"
              "  0000000000000000-00000000000c2fff (prio 0, ram): pc.ram\n"
              "  00000000000c3000-00000000000e7fff (prio 0, rom): pc.ram @00000000000c3000\n"
              "  0000000000100000-000000001fffffff (prio 0, ram): ram-node0 @0000000000100000 KVM\n"
              "  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio\n\n"),
          to_bytes("p"
                   "7f0000000000-7f0020000000 rw-s 00000000 00:01 1234    /memfd:pc.ram (deleted)\n"
                   "7f0020000000-7f0020001000 rw-p 00001000 08:01 77 /usr/bin/a b\n")};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vpatch::fuzz;
  Input input(bytes_of(data, size));
  if (input.take<char>() == 'p') {
    const auto text = text_of(input.rest());
    for (const std::uint64_t address :
         {std::uint64_t{0}, std::uint64_t{0x7f0020000800}, ~std::uint64_t{0}}) {
      static_cast<void>(vpatch::find_mapping(text, address));
    }
    return 0;
  }
  auto blocks = vpatch::parse_ram_layout(text_of(input.rest()));
  for (const auto& block : blocks) {
    static_cast<void>(block.size());
  }
  static_cast<void>(vpatch::guest_ram(std::move(blocks), {"ram-node0"}));
  return 0;
}
