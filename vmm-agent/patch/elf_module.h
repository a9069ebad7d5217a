// SPDX-License-Identifier: Apache-2.0
// A checked view of a relocatable x86-64 module: sections, symbols, and relocations by the section
// they change. Every index and offset handed out lies inside its table. It keeps views of the
// file's bytes, which must outlive it, and is not changed after open(), so threads may share it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/patch/byte_view.h"

namespace vpatch {

struct ElfSection {
  std::string_view name;
  std::uint32_t type;
  std::uint64_t flags;
  std::uint64_t size;  ///< in memory
  ByteView bytes;      ///< in the file; empty for SHT_NOBITS, else `size` long
  std::uint32_t link;
  std::uint32_t info;

  bool is_loaded() const;  ///< SHF_ALLOC
  bool is_code() const;    ///< SHF_EXECINSTR
};

struct ElfSymbol {
  std::uint64_t value;  ///< offset in its section; not checked against the section's size
  std::uint64_t size;
  std::uint32_t name;     ///< offset in the string table, checked
  std::uint16_t section;  ///< a section of the module, or a reserved SHN_* value
  std::uint8_t type;      ///< STT_*
};

struct ElfRelocation {
  std::uint64_t offset;  ///< in the section it changes, checked
  std::int64_t addend;
  std::uint32_t symbol;  ///< checked
  std::uint32_t type;    ///< R_X86_64_*
};

/// A byte of a section.
struct Place {
  std::uint32_t section = 0;
  std::uint64_t offset = 0;

  auto operator<=>(const Place&) const = default;
};

/// The byte `offset` bytes further; may lie outside of the section.
inline Place operator+(Place place, std::uint64_t offset) {
  return {place.section, place.offset + offset};
}

class ElfModule {
 public:
  /// Parses `file`, which passed check_elf_identity() and measure_elf() and has nothing after its
  /// ELF. Errors: Outcome::refused for tables that contradict themselves or that the kernel's
  /// loader would not take.
  static Result<ElfModule> open(ByteView file);

  std::uint32_t section_count() const { return static_cast<std::uint32_t>(sections_.size()); }
  const ElfSection& section(std::uint32_t index) const { return sections_[index]; }

  /// The loaded (SHF_ALLOC) section called `name`, as the kernel would look for it; nothing when
  /// there is none. Errors: Outcome::refused when there are several, for then readers may disagree
  /// about which one counts.
  Result<std::optional<std::uint32_t>> find_loaded(std::string_view name) const;

  std::span<const ElfSymbol> symbols() const { return symbols_; }
  std::string_view symbol_name(const ElfSymbol& symbol) const;

  /// The relocations that change a loaded section, by offset, without R_X86_64_NONE.
  std::span<const ElfRelocation> relocations(std::uint32_t section) const {
    return relocations_[section];
  }
  /// Those of them that start in [begin, end).
  std::span<const ElfRelocation> relocations(std::uint32_t section, std::uint64_t begin,
                                             std::uint64_t end) const;

  /// The name of the function symbol at exactly `place`; nothing when there is none.
  std::optional<std::string_view> function_at(Place place) const;

  /// The end of the data symbol that covers `place`, within the section; nothing when no symbol
  /// covers it.
  std::optional<std::uint64_t> object_end(Place place) const;

  /// The first data symbol of the section after `place`; nothing when there is none.
  std::optional<std::uint64_t> next_object(Place place) const;

  /// The GNU build id note, or nothing.
  const std::string& build_id() const { return build_id_; }

 private:
  struct Named {
    Place place;
    std::uint32_t symbol;
  };
  struct Sized {
    Place place;
    std::uint64_t size;
  };
  class Loader;

  ElfModule() = default;
  void index_symbols();

  std::vector<ElfSection> sections_;
  std::vector<ElfSymbol> symbols_;
  ByteView symbol_names_;
  std::vector<std::vector<ElfRelocation>> relocations_;  ///< by section
  std::vector<Named> functions_;                         ///< by place
  std::vector<Sized> objects_;                           ///< by place, one each
  std::string build_id_;                                 ///< lower-case hexadecimal
};

}  // namespace vpatch
