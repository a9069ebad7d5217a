// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/module_symbols.h"

#include <cstdlib>

#include <elf.h>
#include <gtest/gtest.h>

#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect {
namespace {

using testing::SparseVirtualMemory;

constexpr GuestVirtAddr kSymtab{0xffff'ffff'c000'0000};
constexpr GuestVirtAddr kStrtab{0xffff'ffff'c010'0000};
constexpr GuestVirtAddr kTypetab{0xffff'ffff'c020'0000};
constexpr std::uint64_t kText = 0xffff'ffff'c030'0000;

struct FakeSymbol {
  std::string_view name;
  std::uint64_t value = 0;
  char type = 't';
  bool defined = true;
};

/// A module with 4 KiB of text at kText. Entry 0 is the empty one of every ELF symbol table.
ModuleSymbolTable put(SparseVirtualMemory& memory, const std::vector<FakeSymbol>& symbols) {
  std::string strings(1, '\0');
  std::uint32_t count = 0;
  const auto add = [&](const FakeSymbol& symbol) {
    Elf64_Sym record{};
    if (!symbol.name.empty()) {
      record.st_name = static_cast<Elf64_Word>(strings.size());
      strings.append(symbol.name).push_back('\0');
    }
    record.st_value = symbol.value;
    record.st_shndx = symbol.defined ? 1 : SHN_UNDEF;
    memory.put(GuestVirtAddr(kSymtab.value() + count * sizeof(record)), record);
    memory.put(GuestVirtAddr(kTypetab.value() + count), symbol.type);
    ++count;
  };
  add({.name = "", .value = 0, .type = '?', .defined = false});
  for (const FakeSymbol& symbol : symbols) {
    add(symbol);
  }
  memory.write(kStrtab, std::as_bytes(std::span(strings)));
  return {kSymtab, count, kStrtab, kTypetab, {*VirtRange::make(GuestVirtAddr(kText), kPageSize)}};
}

ModuleSymbols loaded(const std::vector<FakeSymbol>& symbols) {
  SparseVirtualMemory memory;
  auto module = ModuleSymbols::load(memory, put(memory, symbols));
  EXPECT_TRUE(module) << module.error().what;
  if (!module) {
    std::abort();
  }
  return *std::move(module);
}

std::string name_at(const ModuleSymbols& module, std::uint64_t address) {
  const auto symbol = module.at(GuestVirtAddr(address));
  return symbol ? symbol->name : "(none)";
}

TEST(ModuleSymbols, NamesTheHighestSymbolAtOrBelowAnAddress) {
  const auto module = loaded({{"later", kText + 0x80}, {"first", kText}, {"middle", kText + 0x40}});
  const Symbol expected{"middle", GuestVirtAddr(kText + 0x40), 0x40, 't'};
  EXPECT_EQ(module.at(GuestVirtAddr(kText + 0x7f)), expected);
}

TEST(ModuleSymbols, NamesTheFirstOfSeveralAtAnAddress) {
  const auto module = loaded({{"vpatch_exit", kText}, {"cleanup_module", kText}});
  EXPECT_EQ(name_at(module, kText + 1), "vpatch_exit");
}

TEST(ModuleSymbols, EndTheLastSymbolWithTheText) {
  const auto module = loaded({{"last", kText + 0x100}, {"data", kText + 0x2000, 'd'}});
  EXPECT_EQ(module.at(GuestVirtAddr(kText + 0x100))->size, kPageSize - 0x100);
}

TEST(ModuleSymbols, NameNothingOutsideOfTheText) {
  const auto module = loaded({{"first", kText}, {"data", kText + kPageSize, 'd'}});
  EXPECT_EQ(name_at(module, kText + kPageSize), "(none)");
  EXPECT_EQ(name_at(module, kText - 1), "(none)");
}

TEST(ModuleSymbols, PassOverMarksAndUndefinedOnes) {
  const auto module = loaded({{"function", kText},
                              {"$d", kText + 1},
                              {"$x.12", kText + 2},
                              {".Ltmp0", kText + 3},
                              {"L0", kText + 4},
                              {"", kText + 5},
                              {"imported", kText + 6, 'U', false}});
  const Symbol expected{"function", GuestVirtAddr(kText), kPageSize, 't'};
  EXPECT_EQ(module.at(GuestVirtAddr(kText + 0x10)), expected);
}

TEST(ModuleSymbols, NameAllOfANameInTableOrder) {
  const auto module =
      loaded({{"show", kText + 0x80, 'd'}, {"other", kText + 0x40}, {"show", kText}});
  const std::vector<Symbol> expected = {
      {"show", GuestVirtAddr(kText + 0x80), kPageSize - 0x80, 'd'},
      {"show", GuestVirtAddr(kText), 0x40, 't'}};
  EXPECT_EQ(module.named("show"), expected);
  EXPECT_EQ(module.named("show", 1).size(), 1U);
}

TEST(ModuleSymbols, MayBeNone) {
  const auto module = ModuleSymbols::load(SparseVirtualMemory(), ModuleSymbolTable{});
  ASSERT_TRUE(module);
  EXPECT_EQ(module->all(), std::vector<Symbol>{});
}

TEST(ModuleSymbols, AreReadWhenTheirNamesEndJustBeforeUnmappedMemory) {
  SparseVirtualMemory memory;
  auto table = put(memory, {{"first", kText}});
  table.strtab = GuestVirtAddr(kStrtab.value() + kPageSize - 7);
  memory.put_text(table.strtab, "");
  memory.put_text(GuestVirtAddr(table.strtab.value() + 1), "first");
  const auto module = ModuleSymbols::load(memory, table);
  ASSERT_TRUE(module) << module.error().what;
  EXPECT_EQ(name_at(*module, kText), "first");
}

TEST(ModuleSymbols, AreCorruptWhenTheirNamesWouldBeHuge) {
  SparseVirtualMemory memory;
  const auto table = put(memory, {{"first", kText}});
  Elf64_Sym record{};
  record.st_name = 0xffff'ffff;
  record.st_shndx = 1;
  memory.put(GuestVirtAddr(kSymtab.value() + sizeof(record)), record);
  EXPECT_EQ(ModuleSymbols::load(memory, table).error().code, Errc::corrupt);
}

TEST(ModuleSymbols, CannotBeReadWhenATableIsNotMapped) {
  for (const GuestVirtAddr part : {kSymtab, kStrtab, kTypetab}) {
    SparseVirtualMemory memory;
    const auto table = put(memory, {{"first", kText}});
    memory.fail_at(part);
    EXPECT_EQ(ModuleSymbols::load(memory, table).error().code, Errc::out_of_range);
  }
}

}  // namespace
}  // namespace vpatch::introspect
