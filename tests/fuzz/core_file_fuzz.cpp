// SPDX-License-Identifier: Apache-2.0
// An ELF core of any bytes.
#include <string>

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "introspect/memory/core_memory.h"
#include "tests/fuzz/fuzz_input.h"

namespace vpatch::fuzz {
namespace {

void fuzz_one(std::span<const std::byte> bytes) {
  const introspect::UniqueFd fd(memfd_create("core", MFD_CLOEXEC));
  if (!fd || write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
  const auto core = introspect::open_core("/proc/self/fd/" + std::to_string(fd.get()));
  if (!core) {
    return;
  }
  std::array<std::byte, 4096> page{};
  for (const auto& region : core->memory.regions()) {
    static_cast<void>(core->memory.read(region.start(), page));
    static_cast<void>(core->memory.next_populated(region.start()));
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_CORE;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof(header);
  header.e_ehsize = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 3;
  // As QEMU writes them: a CPU's registers as Linux has them (NT_PRSTATUS), and as QEMU has them.
  const auto note = [](std::string_view name, std::uint32_t type, std::size_t size, auto&& fill) {
    Output output;
    output.put(static_cast<std::uint32_t>(name.size() + 1))
        .put(static_cast<std::uint32_t>(size))
        .put(type);
    Bytes text((name.size() + 4) / 4 * 4);
    std::memcpy(text.data(), name.data(), name.size());
    Bytes body((size + 3) / 4 * 4);
    fill(body);
    return output.put_bytes(text).put_bytes(body).take();
  };
  const auto status = note("CORE", NT_PRSTATUS, 336, [](Bytes&) {});
  const auto state = note("QEMU", 0, 440, [](Bytes& body) {
    const std::array<std::uint32_t, 2> front = {1, 440};  // version, size
    std::memcpy(body.data(), front.data(), sizeof(front));
  });
  const std::uint64_t notes = status.size() + state.size();
  const std::uint64_t first = sizeof(header) + 3 * sizeof(Elf64_Phdr);
  Output output;
  output.put(header);
  output.put(Elf64_Phdr{.p_type = PT_NOTE,
                        .p_flags = 0,
                        .p_offset = first,
                        .p_vaddr = 0,
                        .p_paddr = 0,
                        .p_filesz = notes,
                        .p_memsz = notes,
                        .p_align = 0});
  output.put(Elf64_Phdr{.p_type = PT_LOAD,
                        .p_flags = 0,
                        .p_offset = first + notes,
                        .p_vaddr = 0,
                        .p_paddr = 0,
                        .p_filesz = 4096,
                        .p_memsz = 4096,
                        .p_align = 0});
  output.put(Elf64_Phdr{.p_type = PT_LOAD,
                        .p_flags = 0,
                        .p_offset = first + notes + 4096,
                        .p_vaddr = 0,
                        .p_paddr = 0x100000,
                        .p_filesz = 4096,
                        .p_memsz = 4096,
                        .p_align = 0});
  output.put_bytes(status).put_bytes(state).put_bytes(Bytes(8192, std::byte{0x41}));
  return {output.take()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
