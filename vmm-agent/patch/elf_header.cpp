// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/elf_header.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <elf.h>
#include <fmt/format.h>

#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

using namespace std::string_view_literals;

struct Compression {
  std::string_view magic;
  std::string_view name;
  std::string_view command;
};

constexpr std::array kCompressions = {
    Compression{"\xFD"
                "7zXZ\0"sv,
                "xz", "xz -d"},
    Compression{"\x1F\x8B"sv, "gzip", "gzip -d"},
    Compression{"\x28\xB5\x2F\xFD"sv, "zstd", "zstd -d"},
};

struct Machine {
  std::uint16_t id;
  std::string_view name;
};

constexpr std::array kMachines = {
    Machine{EM_386, "32-bit x86"}, Machine{EM_AARCH64, "AArch64"},
    Machine{EM_ARM, "32-bit Arm"}, Machine{EM_PPC64, "PowerPC64"},
    Machine{EM_S390, "s390"},      Machine{EM_RISCV, "RISC-V"},
    Machine{EM_MIPS, "MIPS"},      Machine{EM_LOONGARCH, "LoongArch"},
};

std::unexpected<Error> refuse(std::string what, std::string hint) {
  return fail(Outcome::refused, std::move(what), std::move(hint));
}

std::unexpected<Error> refuse_truncated(const std::string& what) {
  return refuse("truncated: " + what, "Copy the module again; the file is not complete.");
}

std::unexpected<Error> refuse_machine(std::uint16_t id) {
  const auto* const it = std::ranges::find(kMachines, id, &Machine::id);
  const auto name =
      it == kMachines.end() ? fmt::format("ELF machine {}", id) : std::string(it->name);
  return refuse(fmt::format("built for {}, not x86-64", name),
                "Build the livepatch for the guest's architecture.");
}

std::string_view type_name(std::uint16_t type) {
  if (type == ET_EXEC) return "an executable";
  if (type == ET_DYN) return "a shared object or executable";
  if (type == ET_CORE) return "a core dump";
  return "an ELF file of unknown type";
}

Result<void> check_magic(ByteView file) {
  for (const auto& c : kCompressions) {
    if (file.text().starts_with(c.magic)) {
      return refuse(fmt::format("compressed with {}", c.name),
                    fmt::format("Decompress it first: {} FILE.", c.command));
    }
  }
  const auto magic = std::string_view(ELFMAG, SELFMAG);
  if (!file.empty() && file.size() < SELFMAG && magic.starts_with(file.text())) {
    return refuse_truncated("the ELF header is not complete");
  }
  if (!file.text().starts_with(magic)) {
    return refuse("not an ELF file", "Give the path of a livepatch module (.ko).");
  }
  return {};
}

struct Extent {
  std::uint64_t begin;
  std::uint64_t size;
  std::size_t section;  ///< 0 for the ELF's own headers
};

Result<void> check_no_overlap(std::vector<Extent>& extents) {
  std::ranges::sort(extents, {}, &Extent::begin);
  for (std::size_t i = 1; i < extents.size(); ++i) {
    const auto& before = extents[i - 1];
    if (before.begin + before.size <= extents[i].begin) continue;
    return refuse_corrupt(
        fmt::format("section {} overlaps {}", std::max(before.section, extents[i].section),
                    std::min(before.section, extents[i].section) == 0 ? "the ELF's headers"
                                                                      : "another section"));
  }
  return {};
}

Result<void> check_table(const Elf64_Ehdr& header, ByteView file) {
  if (header.e_ehsize != sizeof(Elf64_Ehdr) || header.e_shentsize != sizeof(Elf64_Shdr)) {
    return refuse_corrupt("the ELF header has a wrong size for its tables");
  }
  if (header.e_phnum != 0) return refuse_corrupt("a module has no program headers");
  // The kernel's loader knows no extended numbering (e_shnum 0), so neither does this.
  if (header.e_shoff == 0 || header.e_shnum < 2) return refuse_corrupt("no section table");
  if (header.e_shstrndx == SHN_UNDEF || header.e_shstrndx >= header.e_shnum) {
    return refuse_corrupt("no section names");
  }
  if (!file.fits(header.e_shoff, std::uint64_t{header.e_shnum} * sizeof(Elf64_Shdr))) {
    return refuse_truncated("the section table runs past the end of the file");
  }
  return {};
}

}  // namespace

Result<void> check_elf_identity(ByteView file) {
  if (auto magic = check_magic(file); !magic) return magic;
  const auto header = file.read<Elf64_Ehdr>(0);
  // A 32-bit header is shorter, so look at the class as soon as it is there.
  const auto ident_class = file.read<std::uint8_t>(EI_CLASS);
  if (ident_class && *ident_class == ELFCLASS32) {
    return refuse("a 32-bit ELF file, not x86-64", "Build the livepatch for a 64-bit kernel.");
  }
  if (!header) return refuse_truncated("the ELF header is not complete");
  if (header->e_ident[EI_CLASS] != ELFCLASS64) return refuse_corrupt("unknown ELF class");
  if (header->e_ident[EI_DATA] == ELFDATA2MSB) {
    return refuse("a big-endian ELF file, not x86-64",
                  "Build the livepatch for the guest's architecture.");
  }
  if (header->e_ident[EI_DATA] != ELFDATA2LSB) return refuse_corrupt("unknown ELF byte order");
  if (header->e_ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT) {
    return refuse_corrupt("unknown ELF version");
  }
  if (header->e_machine != EM_X86_64) return refuse_machine(header->e_machine);
  if (header->e_type != ET_REL) {
    return refuse(fmt::format("{}, not a kernel module", type_name(header->e_type)),
                  "Give the path of a livepatch module (.ko).");
  }
  return {};
}

Result<std::size_t> measure_elf(ByteView file) {
  const auto header = file.read<Elf64_Ehdr>(0);
  if (!header) return refuse_truncated("the ELF header is not complete");
  if (auto table = check_table(*header, file); !table) return std::unexpected(table.error());

  const std::uint64_t table_size = std::uint64_t{header->e_shnum} * sizeof(Elf64_Shdr);
  std::vector<Extent> extents = {{0, sizeof(Elf64_Ehdr), 0}, {header->e_shoff, table_size, 0}};
  for (std::size_t i = 1; i < header->e_shnum; ++i) {
    const auto section = file.read<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr));
    if (!section) return refuse_truncated("the section table runs past the end of the file");
    if (section->sh_type == SHT_NULL || section->sh_type == SHT_NOBITS) continue;
    if (!file.fits(section->sh_offset, section->sh_size)) {
      return refuse_truncated(fmt::format("section {} runs past the end of the file", i));
    }
    if (section->sh_size != 0) extents.push_back({section->sh_offset, section->sh_size, i});
  }
  if (auto overlap = check_no_overlap(extents); !overlap) return std::unexpected(overlap.error());
  return static_cast<std::size_t>(extents.back().begin + extents.back().size);
}

}  // namespace vpatch
