// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/core_memory.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <sys/stat.h>

namespace vpatch::introspect {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kMaxSegments = 65536;
constexpr std::uint64_t kMaxNotes = std::uint64_t{64} << 20;  // QEMU writes about 1 KiB a vCPU
constexpr std::size_t kMaxVcpus = 8192;

/// QEMU's note of one vCPU (target/i386/arch_dump.c), version 1.
struct QemuSegment {
  std::uint32_t selector, limit, flags, pad;
  std::uint64_t base;
};
struct QemuVcpu {
  std::uint32_t version, size;
  std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  std::uint64_t rip, rflags;
  QemuSegment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
  std::array<std::uint64_t, 5> cr;
  std::uint64_t kernel_gs_base;
};
static_assert(sizeof(QemuVcpu) == 440 && std::endian::native == std::endian::little);

struct ElfEnd {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using ElfHandle = std::unique_ptr<Elf, ElfEnd>;

std::unexpected<Error> lie(std::string_view what) {
  return fail(Errc::corrupt, fmt::format("the core's headers lie: {}", what));
}

std::unexpected<Error> no_core(std::string_view why) {
  return fail(Errc::no_memory, fmt::format("not a core of dump-guest-memory: {}", why));
}

Result<UniqueFd> open_file(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    const int error = errno;
    const Errc code = error == EACCES || error == EPERM ? Errc::permission : Errc::io;
    return fail(code, fmt::format("open the core: {}", std::generic_category().message(error)),
                error);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    const int error = errno;
    return fail(Errc::io,
                fmt::format("look at the core: {}", std::generic_category().message(error)), error);
  }
  if (!S_ISREG(status.st_mode)) {
    return no_core("it is not a regular file");
  }
  return fd;
}

/// Says what the file is when it is no ELF file.
std::unexpected<Error> not_elf(int fd) {
  std::array<char, 12> magic{};
  const ssize_t got = ::pread(fd, magic.data(), magic.size(), 0);
  const std::string_view start(magic.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  if (start.starts_with("KDUMP   "sv) || start.starts_with("makedumpfile"sv)) {
    return no_core("it is kdump-compressed; dump again in the elf format");
  }
  return no_core("it is no ELF file");
}

Result<void> check_header(Elf* elf) {
  GElf_Ehdr header{};
  if (gelf_getclass(elf) != ELFCLASS64 || gelf_getehdr(elf, &header) == nullptr) {
    return no_core("it is not of 64 bits");
  }
  if (header.e_type != ET_CORE) {
    return no_core("it is another kind of ELF file");
  }
  if (header.e_machine != EM_X86_64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return no_core("it is of another machine than x86-64");
  }
  return {};
}

Result<std::vector<GElf_Phdr>> segments(Elf* elf) {
  std::size_t count = 0;
  if (elf_getphdrnum(elf, &count) != 0 || count > kMaxSegments) {
    return lie("the number of segments");
  }
  std::vector<GElf_Phdr> all(count);
  for (std::size_t index = 0; index < count; ++index) {
    if (gelf_getphdr(elf, static_cast<int>(index), &all[index]) == nullptr) {
      return lie(fmt::format("segment {} of {} is not in the file", index, count));
    }
  }
  return all;
}

/// The RAM of a PT_LOAD segment; nothing when none of it is in the file.
Result<std::optional<FileRegion>> ram_of(const GElf_Phdr& segment) {
  if (segment.p_vaddr != 0 && segment.p_vaddr != segment.p_paddr) {
    return no_core("it was written with paging, by virtual addresses; dump again without");
  }
  if (segment.p_filesz > segment.p_memsz) {
    return lie(fmt::format("RAM at {:#x} is larger in the file than in memory", segment.p_paddr));
  }
  if (segment.p_filesz == 0) {
    return std::nullopt;
  }
  return FileRegion{GuestPhysAddr(segment.p_paddr), segment.p_filesz, segment.p_offset};
}

Result<VcpuRegisters> registers_of(std::span<const std::byte> note, std::uint32_t index) {
  QemuVcpu raw{};
  if (note.size() < sizeof(raw)) {
    return lie(fmt::format("vCPU {} has a note of {} bytes", index, note.size()));
  }
  std::memcpy(&raw, note.data(), sizeof(raw));
  if (raw.version != 1) {
    return no_core(fmt::format("its vCPU notes are of the unknown version {}", raw.version));
  }
  return VcpuRegisters{.index = index,
                       .rip = GuestVirtAddr(raw.rip),
                       .rsp = GuestVirtAddr(raw.rsp),
                       .rbp = raw.rbp,
                       .r10 = raw.r10,
                       .r13 = raw.r13,
                       .rdi = raw.rdi,
                       .rdx = raw.rdx,
                       .rflags = raw.rflags,
                       .cr3 = raw.cr[3],
                       .cr4 = raw.cr[4],
                       .gs_base = raw.gs.base,
                       .kernel_gs_base = raw.kernel_gs_base,
                       .cs = static_cast<std::uint16_t>(raw.cs.selector),
                       .halted = false};
}

/// Appends the vCPUs that the notes of one PT_NOTE segment tell of.
Result<void> take_notes(Elf* elf, const GElf_Phdr& segment, std::vector<VcpuRegisters>& vcpus) {
  if (segment.p_filesz > kMaxNotes ||
      segment.p_offset > static_cast<GElf_Off>(std::numeric_limits<std::int64_t>::max())) {
    return lie("the size of the notes");
  }
  Elf_Data* const data = elf_getdata_rawchunk(elf, static_cast<std::int64_t>(segment.p_offset),
                                              segment.p_filesz, ELF_T_NHDR);
  if (data == nullptr) {
    return lie("the notes are not in the file");
  }
  const auto bytes = std::span(static_cast<const std::byte*>(data->d_buf), data->d_size);
  GElf_Nhdr note{};
  std::size_t name_at = 0;
  std::size_t text_at = 0;
  for (std::size_t at = 0; (at = gelf_getnote(data, at, &note, &name_at, &text_at)) > 0;) {
    constexpr std::string_view kName = "QEMU\0"sv;
    if (note.n_namesz != kName.size() ||
        std::memcmp(bytes.data() + name_at, kName.data(), kName.size()) != 0) {
      continue;
    }
    if (vcpus.size() == kMaxVcpus) {
      return lie(fmt::format("more than {} vCPUs", kMaxVcpus));
    }
    auto vcpu = registers_of(bytes.subspan(text_at, note.n_descsz),
                             static_cast<std::uint32_t>(vcpus.size()));
    if (!vcpu) {
      return std::unexpected(std::move(vcpu).error());
    }
    vcpus.push_back(*vcpu);
  }
  return {};
}

/// What the headers say.
struct Contents {
  std::vector<FileRegion> regions;
  std::vector<VcpuRegisters> vcpus;
};

Result<Contents> contents_of(int fd) {
  elf_version(EV_CURRENT);
  const ElfHandle elf(elf_begin(fd, ELF_C_READ, nullptr));
  if (!elf || elf_kind(elf.get()) != ELF_K_ELF) {
    return not_elf(fd);
  }
  if (auto fine = check_header(elf.get()); !fine) {
    return std::unexpected(std::move(fine).error());
  }
  const auto all = segments(elf.get());
  if (!all) {
    return std::unexpected(all.error());
  }
  Contents found;
  for (const GElf_Phdr& segment : *all) {
    if (segment.p_type == PT_NOTE) {
      if (auto taken = take_notes(elf.get(), segment, found.vcpus); !taken) {
        return std::unexpected(std::move(taken).error());
      }
    } else if (segment.p_type == PT_LOAD) {
      auto region = ram_of(segment);
      if (!region) {
        return std::unexpected(std::move(region).error());
      }
      if (const std::optional<FileRegion>& ram = *region) {
        found.regions.push_back(*ram);
      }
    }
  }
  if (found.vcpus.empty()) {
    return no_core("it has no vCPU notes of QEMU");
  }
  return found;
}

}  // namespace

Result<CoreFile> open_core(const std::filesystem::path& path) {
  auto fd = open_file(path);
  if (!fd) {
    return std::unexpected(std::move(fd).error());
  }
  auto contents = contents_of(fd->get());
  if (!contents) {
    return std::unexpected(std::move(contents).error());
  }
  auto memory = FileMemory::create(*std::move(fd), contents->regions, FileUse::core);
  if (!memory) {
    return std::unexpected(std::move(memory).error().in_context("place the core's RAM"));
  }
  return CoreFile{*std::move(memory), std::move(contents->vcpus)};
}

}  // namespace vpatch::introspect
