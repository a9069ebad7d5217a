// SPDX-License-Identifier: Apache-2.0
// Builds relocatable ELF64 x86-64 files in memory, right or wrong, for tests. It checks nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <elf.h>

namespace vpatch::test {

using Bytes = std::vector<std::byte>;

Bytes to_bytes(std::string_view text);

/// Overwrites the `T` at `offset`, which must be inside.
template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  std::memcpy(&bytes.at(offset + sizeof(T) - 1) - (sizeof(T) - 1), &value, sizeof(T));
}

template <class T>
T get(const Bytes& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, &bytes.at(offset + sizeof(T) - 1) - (sizeof(T) - 1), sizeof(T));
  return value;
}

class ElfBuilder {
 public:
  struct Section {
    std::string name;
    std::uint32_t type = SHT_PROGBITS;
    std::uint64_t flags = 0;
    Bytes bytes = {};
    std::uint64_t nobits_size = 0;
    std::vector<Elf64_Rela> relocations = {};
    std::uint32_t section_symbol = 0;
  };
  struct Symbol {
    std::string name;
    std::uint8_t type = STT_NOTYPE;
    std::uint32_t section = SHN_UNDEF;
    std::uint64_t value = 0;
    std::uint64_t size = 0;
  };

  /// Adds a section and its section symbol. Returns its index.
  std::uint32_t add_section(Section section);
  /// Returns its index.
  std::uint32_t add_symbol(Symbol symbol);
  void relocate(std::uint32_t section, std::uint64_t offset, std::uint32_t symbol,
                std::int64_t addend, std::uint32_t type = R_X86_64_64);

  Section& section(std::uint32_t index) { return sections_.at(index); }
  Section& section(std::string_view name);
  std::vector<Symbol>& symbols() { return symbols_; }
  /// The relocation of `section` at `offset`, which must exist.
  Elf64_Rela& relocation(std::uint32_t section, std::uint64_t offset);
  void drop_relocation(std::uint32_t section, std::uint64_t offset);

  /// Header, sections, relocation sections, symbols, names, section table; nothing in between but
  /// alignment.
  Bytes build() const;

 private:
  std::vector<Section> sections_ = {Section{}};
  std::vector<Symbol> symbols_ = {Symbol{}};
};

/// The offset in `file` of the section header of the section called `name`.
std::size_t section_header(const Bytes& file, std::string_view name);

}  // namespace vpatch::test
