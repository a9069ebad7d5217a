// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"

namespace vpatch::introspect {

/// Where a loaded module keeps its symbol table (struct mod_kallsyms) and its code.
struct ModuleSymbolTable {
  GuestVirtAddr symtab;  ///< Elf64_Sym[count]
  std::uint32_t count = 0;
  GuestVirtAddr strtab;
  GuestVirtAddr typetab;        ///< char[count]; 0 when the kernel has none (before 5.2)
  std::vector<VirtRange> text;  ///< executable parts of the module, at most 4
};

/// The largest module symbol table believed.
inline constexpr std::uint32_t kMaxModuleSymbols = 500'000;

/// One module's symbols, copied from the guest. Threads: never changes, any number may ask.
class ModuleSymbols {
 public:
  /// Errc::corrupt when the table makes no sense, and any error of the memory.
  static Result<ModuleSymbols> load(const VirtualMemory& memory, const ModuleSymbolTable& table);

  /// The symbol that covers `address` as the kernel would print it (find_kallsyms_symbol() in
  /// kernel/module/kallsyms.c): the highest one at or below it, the first of equal ones, its size
  /// up to the next higher one or the end of the text. Nothing outside of the module's text.
  std::optional<Symbol> at(GuestVirtAddr address) const;

  /// Every symbol of that name in table order, which is livepatch's sympos order; at most `max`.
  std::vector<Symbol> named(std::string_view name, std::size_t max = 64) const;

  /// The same for each of `names`, in one walk over the table.
  std::vector<std::vector<Symbol>> all_named(std::span<const std::string_view> names,
                                             std::size_t max) const;

  /// All of its symbols that are defined here and have a name, in table order.
  std::vector<Symbol> all() const;

 private:
  /// What is kept of an Elf64_Sym.
  struct Entry {
    std::uint64_t value = 0;
    std::uint32_t name = 0;
    bool defined = false;
    char type = '?';
  };

  ModuleSymbols() = default;
  std::string_view name(const Entry& entry) const;
  /// Its size goes up to the next higher value, or to `end` if that comes first or there is none.
  Symbol symbol(const Entry& entry, std::optional<std::uint64_t> end) const;
  std::optional<std::uint64_t> end_of_text(GuestVirtAddr address) const;

  std::vector<Entry> entries_;           // in table order
  std::vector<std::uint32_t> by_value_;  // those that cover code: indexes, by value, then by index
  std::vector<std::byte> strings_;
  std::vector<VirtRange> text_;
};

}  // namespace vpatch::introspect
