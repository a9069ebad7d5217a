// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/inspect/elf_builder.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace vpatch::test {
namespace {

constexpr std::size_t kAlignment = 8;

template <class T>
void append(Bytes& to, const T& value) {
  const auto* const begin = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), begin, begin + sizeof(T));
}

/// A string table under construction.
struct Names {
  Bytes bytes = {std::byte{0}};

  std::uint32_t add(const std::string& name) {
    if (name.empty()) return 0;
    const auto offset = static_cast<std::uint32_t>(bytes.size());
    const auto text = to_bytes(name);
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.push_back(std::byte{0});
    return offset;
  }
};

/// The file under construction: contents at once, headers at the end.
struct File {
  Bytes bytes = Bytes(sizeof(Elf64_Ehdr));
  std::vector<Elf64_Shdr> headers = {Elf64_Shdr{}};
  Names section_names;

  Elf64_Shdr& add(const std::string& name, std::uint32_t type, std::uint64_t flags,
                  const Bytes& contents) {
    bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
    Elf64_Shdr header{};
    header.sh_name = section_names.add(name);
    header.sh_type = type;
    header.sh_flags = flags;
    header.sh_offset = bytes.size();
    header.sh_size = contents.size();
    header.sh_addralign = type == SHT_NOTE ? 4 : kAlignment;
    bytes.insert(bytes.end(), contents.begin(), contents.end());
    headers.push_back(header);
    return headers.back();
  }

  Bytes finish() {
    // The section of names holds its own name, so that comes first.
    const auto own_name = section_names.add(".shstrtab");
    add("", SHT_STRTAB, 0, section_names.bytes).sh_name = own_name;
    bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);

    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_REL;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_shoff = bytes.size();
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<std::uint16_t>(headers.size());
    header.e_shstrndx = static_cast<std::uint16_t>(headers.size() - 1);
    put(bytes, 0, header);
    for (const auto& h : headers) append(bytes, h);
    return std::move(bytes);
  }
};

}  // namespace

Bytes to_bytes(std::string_view text) {
  Bytes bytes(text.size());
  std::ranges::transform(text, bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

std::uint32_t ElfBuilder::add_section(Section section) {
  const auto index = static_cast<std::uint32_t>(sections_.size());
  section.section_symbol = add_symbol({.name = "", .type = STT_SECTION, .section = index});
  sections_.push_back(std::move(section));
  return index;
}

std::uint32_t ElfBuilder::add_symbol(Symbol symbol) {
  symbols_.push_back(std::move(symbol));
  return static_cast<std::uint32_t>(symbols_.size() - 1);
}

void ElfBuilder::relocate(std::uint32_t section, std::uint64_t offset, std::uint32_t symbol,
                          std::int64_t addend, std::uint32_t type) {
  sections_.at(section).relocations.push_back({offset, ELF64_R_INFO(symbol, type), addend});
}

ElfBuilder::Section& ElfBuilder::section(std::string_view name) {
  const auto it = std::ranges::find(sections_, name, &Section::name);
  if (it == sections_.end()) throw std::out_of_range("no such section");
  return *it;
}

Elf64_Rela& ElfBuilder::relocation(std::uint32_t section, std::uint64_t offset) {
  auto& list = sections_.at(section).relocations;
  const auto it = std::ranges::find(list, offset, &Elf64_Rela::r_offset);
  if (it == list.end()) throw std::out_of_range("no such relocation");
  return *it;
}

void ElfBuilder::drop_relocation(std::uint32_t section, std::uint64_t offset) {
  std::erase_if(sections_.at(section).relocations,
                [=](const Elf64_Rela& r) { return r.r_offset == offset; });
}

Bytes ElfBuilder::build() const {
  File file;
  for (std::size_t i = 1; i < sections_.size(); ++i) {
    const auto& s = sections_[i];
    auto& header = file.add(s.name, s.type, s.flags, s.bytes);
    if (s.type == SHT_NOBITS) header.sh_size = s.nobits_size;
  }
  const auto with_relocations =
      std::ranges::count_if(sections_, [](const Section& s) { return !s.relocations.empty(); });
  const auto symbol_table =
      static_cast<std::uint32_t>(sections_.size() + static_cast<std::size_t>(with_relocations));
  for (std::size_t i = 1; i < sections_.size(); ++i) {
    if (sections_[i].relocations.empty()) continue;
    Bytes table;
    for (const auto& relocation : sections_[i].relocations) append(table, relocation);
    auto& header = file.add(".rela" + sections_[i].name, SHT_RELA, SHF_INFO_LINK, table);
    header.sh_entsize = sizeof(Elf64_Rela);
    header.sh_link = symbol_table;
    header.sh_info = static_cast<std::uint32_t>(i);
  }

  Names names;
  Bytes table;
  for (const auto& s : symbols_) {
    Elf64_Sym symbol{};
    symbol.st_name = names.add(s.name);
    symbol.st_info = ELF64_ST_INFO(STB_LOCAL, s.type);
    symbol.st_shndx = static_cast<std::uint16_t>(s.section);
    symbol.st_value = s.value;
    symbol.st_size = s.size;
    append(table, symbol);
  }
  auto& symbols = file.add(".symtab", SHT_SYMTAB, 0, table);
  symbols.sh_entsize = sizeof(Elf64_Sym);
  symbols.sh_link = symbol_table + 1;
  symbols.sh_info = static_cast<std::uint32_t>(symbols_.size());
  file.add(".strtab", SHT_STRTAB, 0, names.bytes);
  return file.finish();
}

std::size_t section_header(const Bytes& file, std::string_view name) {
  const auto header = get<Elf64_Ehdr>(file, 0);
  const auto names = get<Elf64_Shdr>(file, header.e_shoff + header.e_shstrndx * sizeof(Elf64_Shdr));
  for (std::size_t i = 1; i < header.e_shnum; ++i) {
    const auto at = header.e_shoff + i * sizeof(Elf64_Shdr);
    const auto* const text = reinterpret_cast<const char*>(
        &file.at(names.sh_offset + get<Elf64_Shdr>(file, at).sh_name));
    if (text == name) return at;
  }
  throw std::out_of_range("no such section");
}

}  // namespace vpatch::test
