// SPDX-License-Identifier: Apache-2.0
// The kernel's compressed symbol table, and the tables of its modules.
#include "introspect/symbols/kallsyms.h"
#include "introspect/symbols/module_symbols.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/symbols/kallsyms_builder.h"

namespace vpatch::fuzz {
namespace {

using introspect::GuestVirtAddr;
using Builder = introspect::testing::KallsymsBuilder;

constexpr std::array<Window, 6> kTables = {{{Builder::kCount.value(), 8},
                                            {Builder::kNames.value(), 65536},
                                            {Builder::kTokenTable.value(), 4096},
                                            {Builder::kTokenIndex.value(), 512},
                                            {Builder::kOffsets.value(), 16384},
                                            {Builder::kRelativeBase.value(), 8}}};
constexpr std::uint64_t kModule = 0xffff'ffff'c000'0000;
constexpr std::array<Window, 3> kModuleTables = {
    {{kModule, 8192}, {kModule + 0x10000, 4096}, {kModule + 0x20000, 256}}};

Builder core_symbols() {
  Builder builder;
  builder.add("cpu_number", 0x1000, 'D');
  builder.add("_stext", Builder::kBase);
  builder.add("first_task", Builder::kBase + 0x100);
  builder.add("twice", Builder::kBase + 0x200, 't');
  builder.add("twice", Builder::kBase + 0x300, 't');
  builder.add("init_uts_ns", Builder::kBase + 0x800000, 'D');
  builder.add("_end", Builder::kBase + 0x900000, 'D');
  return builder;
}

template <class Table>
void ask(const Table& table, Input input) {
  for (const std::string_view name : {"_stext", "twice", "task_task", ""}) {
    static_cast<void>(table.named(name));
  }
  for (int question = 0; question < 8; ++question) {
    static_cast<void>(table.at(GuestVirtAddr(input.take<std::uint64_t>())));
  }
  for (const std::uint64_t at : {Builder::kBase, Builder::kBase + 0x150, kModule + 0x30010}) {
    static_cast<void>(table.at(GuestVirtAddr(at)));
  }
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  if (input.take<std::uint8_t>() % 2 == 0) {
    static const introspect::VmcoreinfoText info = core_symbols().text();
    const FuzzMemory memory(kTables, input);
    const auto table = introspect::Kallsyms::load(memory, info);
    if (!table) {
      return;
    }
    static_cast<void>(table->address_of("first_task"));
    constexpr std::array<std::string_view, 3> kNames = {"twice", "_end", "nothing"};
    static_cast<void>(table->addresses_of(kNames));
    for (std::size_t index = 0; index < std::min<std::size_t>(table->size(), 64); ++index) {
      static_cast<void>(table->symbol(index));
    }
    ask(*table, input);
    return;
  }
  introspect::ModuleSymbolTable place{.symtab = GuestVirtAddr(kModuleTables[0].base),
                                      .count = input.take<std::uint16_t>(),
                                      .strtab = GuestVirtAddr(kModuleTables[1].base),
                                      .typetab = GuestVirtAddr(kModuleTables[2].base),
                                      .text = {}};
  for (const std::uint64_t offset : {0x30000U, 0x40000U}) {
    place.text.push_back(
        *introspect::VirtRange::make(GuestVirtAddr(kModule + offset), input.take<std::uint16_t>()));
  }
  const FuzzMemory memory(kModuleTables, input);
  if (const auto table = introspect::ModuleSymbols::load(memory, place)) {
    static_cast<void>(table->all());
    ask(*table, input);
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const bool plain : {false, true}) {
    introspect::testing::SparseVirtualMemory memory;
    Builder builder = core_symbols();
    if (plain) {
      builder = Builder();
      builder.add("_stext", Builder::kBase);
      builder.add("task", Builder::kBase + 0x40);
      builder.use_plain_offsets();
    }
    builder.put(memory);
    Output output;
    output.put<std::uint8_t>(0);
    put_memory(output, kTables, memory);
    all.push_back(output.take());
  }
  introspect::testing::SparseVirtualMemory memory;
  struct Symbol {  // Elf64_Sym
    std::uint32_t name;
    std::uint8_t info, other;
    std::uint16_t section;
    std::uint64_t value, size;
  };
  memory.put(GuestVirtAddr(kModuleTables[0].base + 24),
             Symbol{1, 0x12, 0, 1, kModule + 0x30000, 0x40});
  memory.put(GuestVirtAddr(kModuleTables[0].base + 48),
             Symbol{7, 0x02, 0, 1, kModule + 0x30040, 0x40});
  memory.put_text(GuestVirtAddr(kModuleTables[1].base + 1), "first");
  memory.put_text(GuestVirtAddr(kModuleTables[1].base + 7), "twice");
  memory.put_text(GuestVirtAddr(kModuleTables[2].base), "?Tt");
  Output output;
  output.put<std::uint8_t>(1).put<std::uint16_t>(3);
  output.put<std::uint16_t>(0x100).put<std::uint16_t>(0x10);
  put_memory(output, kModuleTables, memory);
  all.push_back(output.take());
  return all;
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
