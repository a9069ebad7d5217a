// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/kallsyms.h"

#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

#include "kallsyms_builder.h"

namespace vpatch::introspect {
namespace {

using testing::KallsymsBuilder;
using testing::SparseVirtualMemory;

constexpr std::uint64_t kBase = KallsymsBuilder::kBase;

/// A small kernel: two per-CPU symbols, code with an alias and a name of two symbols, data.
KallsymsBuilder small_kernel() {
  KallsymsBuilder table;
  table.add("__per_cpu_start", 0, 'A');
  table.add("current_task", 0x1000, 'A');
  table.add("startup_64", kBase);
  table.add("_stext", kBase);
  table.add("show", kBase + 0x100, 't');
  table.add("do_task_dead", kBase + 0x180);
  table.add("show", kBase + 0x200, 't');
  table.add("init_uts_ns", kBase + 0x1000, 'D');
  table.add("_end", kBase + 0x2000, 'B');
  return table;
}

Kallsyms loaded(const KallsymsBuilder& table) {
  SparseVirtualMemory memory;
  table.put(memory);
  auto kallsyms = Kallsyms::load(memory, table.text());
  EXPECT_TRUE(kallsyms) << kallsyms.error().what;
  if (!kallsyms) {
    std::abort();
  }
  return *std::move(kallsyms);
}

Errc failure(const SparseVirtualMemory& memory, const VmcoreinfoText& text) {
  const auto kallsyms = Kallsyms::load(memory, text);
  EXPECT_FALSE(kallsyms);
  return kallsyms ? Errc::ambiguous : kallsyms.error().code;
}

TEST(Kallsyms, FindsPerCpuSymbolsByTheirOffset) {
  EXPECT_EQ(loaded(small_kernel()).address_of("current_task"), GuestVirtAddr(0x1000));
}

TEST(Kallsyms, DoesNotFindWhatIsNotThere) {
  const auto kallsyms = loaded(small_kernel());
  for (const std::string_view name : {"", "T", "sho", "showy", "Tshow", "do_task_deae"}) {
    const auto address = kallsyms.address_of(name);
    ASSERT_FALSE(address) << name;
    EXPECT_EQ(address.error().code, Errc::not_found);
  }
}

TEST(Kallsyms, FindsManyNamesInTheOrderAskedFor) {
  const std::string_view names[] = {"_end", "missing", "_stext", "", "_end"};
  const std::vector<std::optional<GuestVirtAddr>> expected = {
      GuestVirtAddr(kBase + 0x2000), std::nullopt, GuestVirtAddr(kBase), std::nullopt,
      GuestVirtAddr(kBase + 0x2000)};
  EXPECT_EQ(loaded(small_kernel()).addresses_of(names), expected);
}

TEST(Kallsyms, NamesAllSymbolsOfANameInOrder) {
  const std::vector<Symbol> expected = {{"show", GuestVirtAddr(kBase + 0x100), 0x80, 't'},
                                        {"show", GuestVirtAddr(kBase + 0x200), 0xe00, 't'}};
  EXPECT_EQ(loaded(small_kernel()).named("show"), expected);
}

TEST(Kallsyms, NamesTheSymbolThatCoversAnAddress) {
  const Symbol expected{"do_task_dead", GuestVirtAddr(kBase + 0x180), 0x80, 'T'};
  const auto kallsyms = loaded(small_kernel());
  EXPECT_EQ(kallsyms.at(GuestVirtAddr(kBase + 0x180)), expected);
  EXPECT_EQ(kallsyms.at(GuestVirtAddr(kBase + 0x1ff)), expected);
}

TEST(Kallsyms, NamesTheFirstOfSeveralAtAnAddress) {
  const Symbol expected{"startup_64", GuestVirtAddr(kBase), 0x100, 'T'};
  EXPECT_EQ(loaded(small_kernel()).at(GuestVirtAddr(kBase + 0x10)), expected);
}

TEST(Kallsyms, NamesNothingOutsideOfTheImage) {
  const auto kallsyms = loaded(small_kernel());
  for (const std::uint64_t address :
       {std::uint64_t{0}, std::uint64_t{0x1000}, kBase - 1, kBase + 0x2000, ~std::uint64_t{0}}) {
    EXPECT_EQ(kallsyms.at(GuestVirtAddr(address)), std::nullopt) << std::hex << address;
  }
}

TEST(Kallsyms, UnderstandsPlainOffsets) {
  KallsymsBuilder table;
  table.use_plain_offsets();
  table.add("_stext", kBase);
  table.add("far", kBase + 0x7000'0000, 'D');
  EXPECT_EQ(loaded(table).address_of("far"), GuestVirtAddr(kBase + 0x7000'0000));
}

TEST(Kallsyms, UnderstandsNamesOfMoreThan127Bytes) {
  const std::string name(300, 'x');
  KallsymsBuilder table;
  table.add("_stext", kBase);
  table.add(name, kBase + 0x10);
  table.add("after", kBase + 0x20);
  const auto kallsyms = loaded(table);
  EXPECT_EQ(kallsyms.address_of(name), GuestVirtAddr(kBase + 0x10));
  EXPECT_EQ(kallsyms.address_of("after"), GuestVirtAddr(kBase + 0x20));
}

TEST(Kallsyms, ShowsWhatCannotBePrintedAsQuestionMarks) {
  KallsymsBuilder table;
  table.add("_stext", kBase);
  table.add("bad\x1b[2J", kBase + 0x10);
  table.add("_end", kBase + 0x20);
  EXPECT_EQ(loaded(table).at(GuestVirtAddr(kBase + 0x10))->name, "bad?[2J");
}

TEST(Kallsyms, AreCorruptWhenTheyDisagreeWithVmcoreinfo) {
  SparseVirtualMemory memory;
  small_kernel().put(memory);
  auto text = small_kernel().text();
  text.symbols.erase("init_uts_ns");
  text.symbols.insert_or_assign("_stext", GuestVirtAddr(kBase + 0x10));
  EXPECT_EQ(failure(memory, text), Errc::corrupt);
}

TEST(Kallsyms, AreCorruptWithAnAbsurdNumberOfSymbols) {
  SparseVirtualMemory memory;
  small_kernel().put(memory);
  for (const std::uint32_t count : {0U, kMaxKallsyms + 1, 0xffff'ffffU}) {
    memory.put(KallsymsBuilder::kCount, count);
    EXPECT_EQ(failure(memory, small_kernel().text()), Errc::corrupt);
  }
}

TEST(Kallsyms, CannotBeReadWhenTheirNamesRunIntoUnmappedMemory) {
  SparseVirtualMemory memory;
  small_kernel().put(memory);
  memory.put(KallsymsBuilder::kCount, kMaxKallsyms);
  for (std::uint64_t at = 0; at < kPageSize; ++at) {
    memory.put(GuestVirtAddr(KallsymsBuilder::kNames.value() + at), '\x7f');
  }
  EXPECT_EQ(failure(memory, small_kernel().text()), Errc::out_of_range);
}

TEST(Kallsyms, CannotBeReadWhenATableIsNotMapped) {
  for (const GuestVirtAddr table :
       {KallsymsBuilder::kCount, KallsymsBuilder::kNames, KallsymsBuilder::kTokenTable,
        KallsymsBuilder::kTokenIndex, KallsymsBuilder::kOffsets, KallsymsBuilder::kRelativeBase}) {
    SparseVirtualMemory memory;
    small_kernel().put(memory);
    memory.fail_at(table);
    EXPECT_EQ(failure(memory, small_kernel().text()), Errc::out_of_range);
  }
}

TEST(Kallsyms, WithFlippedBytesNeverLeadOutOfTheirTables) {
  std::mt19937 random(1);
  std::size_t loaded = 0;
  for (int round = 0; round < 500; ++round) {
    SparseVirtualMemory memory;
    small_kernel().put(memory);
    memory.put(GuestVirtAddr(KallsymsBuilder::kNames.value() + random() % 80),
               static_cast<char>(random()));
    memory.put(GuestVirtAddr(KallsymsBuilder::kTokenIndex.value() + random() % 512),
               static_cast<char>(random()));
    memory.put(GuestVirtAddr(KallsymsBuilder::kTokenTable.value() + random() % 512),
               static_cast<char>(random()));
    const auto kallsyms = Kallsyms::load(memory, small_kernel().text());
    if (kallsyms) {
      ++loaded;
      (void)kallsyms->address_of("do_task_dead");
      (void)kallsyms->named("show");
      (void)kallsyms->at(GuestVirtAddr(kBase + 0x190));
    }
  }
  EXPECT_GT(loaded, 50U);  // the sanitizers are the judges of the rest
}

}  // namespace
}  // namespace vpatch::introspect
