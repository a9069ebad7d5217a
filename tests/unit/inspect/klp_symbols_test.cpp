// SPDX-License-Identifier: Apache-2.0
// Symbols that the kernel's livepatch core resolves for a module's own code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint32_t kLivepatchIndex = 0xff20;

/// A module whose code refers to symbols of these names.
Bytes module_that_needs(const std::vector<std::string>& names,
                        std::uint32_t index = kLivepatchIndex) {
  auto module = make_livepatch();
  module.elf.section(module.text).bytes.resize(256 + names.size() * 8);
  std::uint64_t at = 0;
  for (const std::string& name : names) {
    const auto symbol = module.elf.add_symbol({.name = name, .section = index});
    module.elf.relocate(module.text, at, symbol, -4, R_X86_64_PLT32);
    at += 8;
  }
  return module.build();
}

TEST(KlpSymbols, AreTakenApart) {
  EXPECT_THAT(
      accept(module_that_needs({".klp.sym.vmlinux.printk,0", ".klp.sym.ext4.f.part.0,12"})).symbols,
      ElementsAre(NeededSymbol{"ext4", "f.part.0", 12}, NeededSymbol{"vmlinux", "printk", 0}));
}

TEST(KlpSymbols, AreListedOnce) {
  EXPECT_THAT(accept(module_that_needs({".klp.sym.vmlinux.f,1", ".klp.sym.vmlinux.f,1"})).symbols,
              ElementsAre(NeededSymbol{"vmlinux", "f", 1}));
}

TEST(KlpSymbols, AreNotNeededWhereNothingRefersToThem) {
  auto module = make_livepatch();
  module.elf.add_symbol({.name = ".klp.sym.vmlinux.f,1", .section = kLivepatchIndex});
  EXPECT_THAT(accept(module.build()).symbols, IsEmpty());
}

TEST(KlpSymbols, AreOnlyThoseOfTheLivepatchIndex) {
  EXPECT_THAT(accept(module_that_needs({".klp.sym.vmlinux.f,1"}, SHN_UNDEF)).symbols, IsEmpty());
}

TEST(KlpSymbols, RefusesTooMany) {
  std::vector<std::string> names;
  for (int number = 0; number <= 65536; ++number) {
    names.push_back(".klp.sym.vmlinux.f" + std::to_string(number) + ",0");
  }
  EXPECT_THAT(refusal(module_that_needs(names)), HasSubstr("more than 65536 livepatch symbols"));
}

TEST(KlpSymbols, RefusesNamesThatTheKernelCannotTakeApart) {
  for (const char* const name :
       {"printk", ".klp.sym.", ".klp.sym.vmlinux", ".klp.sym.vmlinux.printk", ".klp.sym..f,0",
        ".klp.sym.vmlinux.,0", ".klp.sym.vmlinux.f,", ".klp.sym.vmlinux.f,x",
        ".klp.sym.vmlinux.f,-1", ".klp.sym.vmlinux.f,99999999999999999999"}) {
    EXPECT_THAT(refusal(module_that_needs({name})), HasSubstr("the livepatch symbol")) << name;
  }
}

}  // namespace
}  // namespace vpatch::test
