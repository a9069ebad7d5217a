// SPDX-License-Identifier: Apache-2.0
// VMCOREINFO: the text of a note, and the search for one in guest memory.
#include "introspect/boot/vmcoreinfo.h"
#include "tests/fuzz/fuzz_memory.h"

namespace vpatch::fuzz {
namespace {

constexpr std::string_view kText =
    "OSRELEASE=6.1.0-56-cloud-amd64\n"
    "BUILD-ID=0123456789abcdef0123456789abcdef01234567\n"
    "PAGESIZE=4096\n"
    "SYMBOL(init_uts_ns)=ffffffff81002bc0\n"
    "OFFSET(uts_namespace.name)=0\n"
    "SYMBOL(init_top_pgt)=ffffffff81003000\n"
    "SYMBOL(_stext)=ffffffff81000000\n"
    "NUMBER(phys_base)=0\n"
    "KERNELOFFSET=0\n"
    "NUMBER(pgtable_l5_enabled)=0\n"
    "NUMBER(sme_mask)=0\n"
    "NUMBER(KERNEL_IMAGE_SIZE)=1073741824\n";

void look(const introspect::VmcoreinfoText& text) {
  for (const auto& [name, address] : text.symbols) {
    static_cast<void>(text.symbol(name));
    static_cast<void>(text.kernel_phys(address));
  }
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  if (input.take<std::uint8_t>() % 2 == 0) {
    if (const auto text = introspect::parse_vmcoreinfo(text_of(input.rest()))) {
      look(*text);
    }
    return;
  }
  const FuzzRam memory(input);
  if (const auto info = introspect::find_vmcoreinfo(memory)) {
    look(info->text);
    static_cast<void>(introspect::read_vmcoreinfo_at(memory, info->note));
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  Output note;
  note.put<std::uint32_t>(11).put(static_cast<std::uint32_t>(kText.size())).put<std::uint32_t>(0);
  note.put_bytes(to_bytes("VMCOREINFO")).put<std::uint16_t>(0).put_bytes(to_bytes(kText));
  const Bytes page = note.take();
  Output memory;
  memory.put<std::uint8_t>(1).put<std::uint8_t>(7);
  memory.put(static_cast<std::uint16_t>(page.size())).put_bytes(page);
  memory.put<std::uint8_t>(40).put(static_cast<std::uint16_t>(page.size())).put_bytes(page);
  return {Output().put<std::uint8_t>(0).put_bytes(to_bytes(kText)).take(), memory.take()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
