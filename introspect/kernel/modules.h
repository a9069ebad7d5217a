// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/stacks/orc.h"
#include "introspect/symbols/module_symbols.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest number of modules believed.
inline constexpr std::size_t kMaxModules = 4096;

enum class ModuleState : std::uint8_t { live, coming, going, unformed, unknown };

/// One loaded module, as its struct module says.
struct Module {
  GuestVirtAddr address;  ///< of its struct module
  std::string name;       ///< printable, at most 55 characters
  ModuleState state{};
  std::string build_id;         ///< lower-case hexadecimal; empty when it has none
  std::uint64_t taints = 0;     ///< bits, as of the kernel's taint mask
  std::int64_t references = 0;  ///< as lsmod shows it; -1 while it is being unloaded
  bool livepatch = false;
  ModuleSymbolTable symbols;
  /// Its `text` is the first part of symbols.text, the one that stays: init code lies apart, and
  /// what is between them may be another module's.
  std::optional<OrcTableLocation> orc;
};

/// Where struct module keeps that, probed once a boot. Two generations: core_layout and init_layout
/// until 6.3, mem[] from 6.4 on.
struct ModuleLayout {
  /// One piece of a module's memory that holds code.
  struct Text {
    std::uint64_t base = 0;       ///< offset of the pointer to it
    std::uint64_t text_size = 0;  ///< offset of its size in bytes (u32)
  };
  /// Where sysfs keeps a module's ELF notes (struct module_notes_attrs): a count, and for each an
  /// attribute with the note section's size and address.
  struct Notes {
    std::uint64_t pointer = 0;  ///< in struct module
    std::uint64_t count = 0, attributes = 0;
    std::uint64_t attribute_size = 0, note_size = 0, note_address = 0;  ///< in bin_attribute
  };

  GuestVirtAddr modules;  ///< the list's head
  std::uint64_t size = 0, list = 0, name = 0, name_size = 0, state = 0, taints = 0;
  std::optional<std::uint64_t> refcnt;     ///< absent without module unloading
  std::optional<std::uint64_t> build_id;   ///< 20 bytes
  std::optional<Notes> notes;              ///< where the build ID is otherwise
  std::optional<std::uint64_t> livepatch;  ///< bool `klp`
  std::vector<Text> text;
  std::uint64_t kallsyms = 0;                            ///< pointer to struct mod_kallsyms
  std::uint64_t symtab = 0, num_symtab = 0, strtab = 0;  ///< in struct mod_kallsyms
  std::uint64_t kallsyms_size = 0;
  std::optional<std::uint64_t> typetab;
  std::optional<std::uint64_t> orc_count, orc_ips, orc_entries;  ///< arch.num_orcs and so on

  static Result<ModuleLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// All modules on the list, newest first as the kernel keeps them; unformed ones are left out. A
/// list that changes meanwhile is read again, three times at most: Errc::torn when it still makes
/// no sense then, or an entry cannot be read; Errc::corrupt beyond kMaxModules.
Result<std::vector<Module>> read_modules(const VirtualMemory& memory, const ModuleLayout& layout);

}  // namespace vpatch::introspect
