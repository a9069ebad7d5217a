// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/modules.h"

#include <array>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/kernel/fake_names.h"

namespace vpatch::introspect {
namespace {

using ::testing::ElementsAre;
using testing::FakeSymbols;
using testing::FakeTypes;
using ::testing::IsEmpty;
using testing::MovingMemory;
using testing::put_list;
using ::testing::SizeIs;
using testing::SparseVirtualMemory;

constexpr std::uint64_t kHead = 0x1000;
constexpr std::uint64_t kFirst = 0x10000;
constexpr std::uint64_t kSecond = 0x20000;
constexpr std::uint64_t kKallsyms = 0x30000;
constexpr std::uint64_t kNotes = 0x31000;
constexpr std::uint64_t kNote = 0x32000;

class ModulesTest : public ::testing::Test {
 protected:
  ModulesTest() {
    layout.modules = GuestVirtAddr(kHead);
    layout.size = 256;
    layout.state = 0;
    layout.list = 8;
    layout.name = 24;
    layout.name_size = 56;
    layout.taints = 80;
    layout.refcnt = 88;
    layout.livepatch = 92;
    layout.text = {{96, 104}, {112, 120}};
    layout.kallsyms = 128;
    layout.kallsyms_size = 32;
    layout.symtab = 0;
    layout.num_symtab = 8;
    layout.strtab = 16;
    layout.typetab = 24;
    layout.orc_count = 136;
    layout.orc_ips = 144;
    layout.orc_entries = 152;
    layout.notes = ModuleLayout::Notes{160, 8, 16, 64, 16, 24};
    put_module(kFirst, "first");
    put_module(kSecond, "second");
    put_list(memory, kHead, {kFirst + layout.list, kSecond + layout.list});
  }

  void put_module(std::uint64_t at, std::string_view name) {
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(layout.size));
    memory.put_text(GuestVirtAddr(at + layout.name), name);
    memory.put(GuestVirtAddr(at + *layout.refcnt), std::int32_t{1});
  }

  Result<std::vector<Module>> read() const { return read_modules(memory, layout); }

  SparseVirtualMemory memory;
  ModuleLayout layout;
};

TEST_F(ModulesTest, TellsStateTaintsReferencesAndLivepatch) {
  memory.put(GuestVirtAddr(kFirst), std::uint32_t{2});
  memory.put(GuestVirtAddr(kFirst + layout.taints), std::uint64_t{0xb000});
  memory.put(GuestVirtAddr(kFirst + *layout.refcnt), std::int32_t{4});
  memory.put(GuestVirtAddr(kFirst + *layout.livepatch), std::uint8_t{1});
  memory.put(GuestVirtAddr(kSecond), std::uint32_t{77});
  memory.put(GuestVirtAddr(kSecond + *layout.refcnt), std::int32_t{0});
  const auto modules = read();
  ASSERT_TRUE(modules.has_value());
  EXPECT_EQ((*modules)[0].state, ModuleState::going);
  EXPECT_EQ((*modules)[0].taints, 0xb000U);
  EXPECT_EQ((*modules)[0].references, 3);
  EXPECT_TRUE((*modules)[0].livepatch);
  EXPECT_EQ((*modules)[1].state, ModuleState::unknown);
  EXPECT_EQ((*modules)[1].references, -1);
  EXPECT_FALSE((*modules)[1].livepatch);
}

TEST_F(ModulesTest, LeavesUnformedModulesOut) {
  memory.put(GuestVirtAddr(kFirst), std::uint32_t{3});
  const auto modules = read();
  ASSERT_TRUE(modules.has_value());
  ASSERT_THAT(*modules, SizeIs(1));
  EXPECT_EQ((*modules)[0].name, "second");
}

TEST_F(ModulesTest, KnowsCodeSymbolsAndUnwindTable) {
  memory.put(GuestVirtAddr(kFirst + 96), std::uint64_t{0xc0001000});
  memory.put(GuestVirtAddr(kFirst + 104), std::uint32_t{0x2000});
  memory.put(GuestVirtAddr(kFirst + 112), std::uint64_t{0xc0009000});
  memory.put(GuestVirtAddr(kFirst + 120), std::uint32_t{0x1000});
  memory.put(GuestVirtAddr(kFirst + layout.kallsyms), kKallsyms);
  memory.put(GuestVirtAddr(kKallsyms), std::array<std::uint64_t, 4>{0xa000, 49, 0xb000, 0xc000});
  memory.put(GuestVirtAddr(kFirst + 136), std::uint32_t{17});
  memory.put(GuestVirtAddr(kFirst + 144), std::uint64_t{0xd000});
  memory.put(GuestVirtAddr(kFirst + 152), std::uint64_t{0xe000});
  const auto modules = read();
  ASSERT_TRUE(modules.has_value());
  const Module& module = (*modules)[0];
  const auto core = VirtRange::make(GuestVirtAddr(0xc0001000), 0x2000).value();
  const auto init = VirtRange::make(GuestVirtAddr(0xc0009000), 0x1000).value();
  EXPECT_THAT(module.symbols.text, ElementsAre(core, init));
  EXPECT_EQ(module.symbols.symtab, GuestVirtAddr(0xa000));
  EXPECT_EQ(module.symbols.count, 49U);
  EXPECT_EQ(module.symbols.strtab, GuestVirtAddr(0xb000));
  EXPECT_EQ(module.symbols.typetab, GuestVirtAddr(0xc000));
  ASSERT_TRUE(module.orc);
  EXPECT_EQ(module.orc->text, core);
  EXPECT_EQ(module.orc->count, 17U);
  EXPECT_EQ(module.orc->ips, GuestVirtAddr(0xd000));
  EXPECT_EQ(module.orc->entries, GuestVirtAddr(0xe000));
}

class ModuleNotes : public ModulesTest {
 protected:
  ModuleNotes() {
    memory.put(GuestVirtAddr(kFirst + layout.notes->pointer), kNotes);
    memory.put(GuestVirtAddr(kNotes + 8), std::uint32_t{2});
    put_attribute(0, 0x7777000, 24);
    put_attribute(1, kNote, 36);
    memory.put(GuestVirtAddr(kNote), std::array<std::uint32_t, 4>{4, 20, 3, 0x554e47});
    memory.put(GuestVirtAddr(kNote + 16), std::array<std::uint8_t, 20>{0xab, 0x01});
  }

  void put_attribute(std::uint64_t index, std::uint64_t address, std::uint64_t size) {
    const std::uint64_t at = kNotes + 16 + index * 64;
    memory.write(GuestVirtAddr(at), std::vector<std::byte>(64));
    memory.put(GuestVirtAddr(at + 16), size);
    memory.put(GuestVirtAddr(at + 24), address);
  }
};

TEST_F(ModuleNotes, HoldTheBuildIdOtherwise) {
  const auto modules = read();
  ASSERT_TRUE(modules.has_value());
  EXPECT_EQ((*modules)[0].build_id, "ab01" + std::string(36, '0'));
}

TEST_F(ModuleNotes, ThatAreTooLargeOrTooManyAreNotRead) {
  memory.put(GuestVirtAddr(kNotes + 8), std::uint32_t{0xffffffff});
  put_attribute(1, kNote, ~std::uint64_t{0});
  const auto modules = read();
  ASSERT_TRUE(modules.has_value());
  EXPECT_EQ((*modules)[0].build_id, "");
}

TEST_F(ModulesTest, FailsAsTornOnACycle) {
  memory.put(GuestVirtAddr(kSecond + layout.list), kFirst + layout.list);
  const auto modules = read();
  ASSERT_FALSE(modules.has_value());
  EXPECT_EQ(modules.error().code, Errc::torn);
}

TEST_F(ModulesTest, ReadsAgainWhenTheListMovedMeanwhile) {
  MovingMemory moving(memory);
  moving.before_read = [this](GuestVirtAddr address) {
    if (address == GuestVirtAddr(kSecond)) {
      put_list(memory, kHead, {kFirst + layout.list});
      memory.put(GuestVirtAddr(kSecond + layout.list + 8), std::uint64_t{0xdead000000000122});
    }
  };
  const auto modules = read_modules(moving, layout);
  ASSERT_TRUE(modules.has_value()) << modules.error().what;
  EXPECT_THAT(*modules, SizeIs(1));
}

class ModuleProbe : public ::testing::Test {
 protected:
  ModuleProbe() {
    symbols.addresses["modules"] = kHead;
    types.sizes = {{"module", 1280}, {"mod_kallsyms", 32}};
    for (const auto* member : {"list", "name", "state", "taints", "kallsyms"}) {
      types.put(fmt::format("module.{}", member), 8);
    }
    for (const auto* member : {"symtab", "num_symtab", "strtab"}) {
      types.put(fmt::format("mod_kallsyms.{}", member), 8);
    }
  }

  FakeTypes types;
  FakeSymbols symbols;
};

TEST_F(ModuleProbe, KnowsTheArrayOfMemories) {
  types.put("module.mem", 320, 504);
  types.sizes["module_memory"] = 72;
  types.put("module_memory.base", 0);
  types.put("module_memory.size", 8, 4);
  types.enumerators = {{"MOD_TEXT", 0}, {"MOD_INIT_TEXT", 4}};
  const auto layout = ModuleLayout::probe(types, symbols);
  ASSERT_TRUE(layout.has_value()) << layout.error().what;
  ASSERT_THAT(layout->text, SizeIs(2));
  EXPECT_EQ(layout->text[0].text_size, 328U);
  EXPECT_EQ(layout->text[1].base, 608U);
}

}  // namespace
}  // namespace vpatch::introspect
