// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/module_btf.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "btf_builder.h"
#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect {
namespace {

using testing::BtfBuilder;
using testing::SparseVirtualMemory;

constexpr GuestVirtAddr kHead{0x10000};
constexpr GuestVirtAddr kOtherEntry{0x20000};
constexpr GuestVirtAddr kEntry{0x30000};
constexpr GuestVirtAddr kModule{0x4000};
constexpr GuestVirtAddr kBtf{0x50000};
constexpr GuestVirtAddr kData{0x60000};

class OneSymbol final : public SymbolAddresses {
 public:
  Result<GuestVirtAddr> address_of(std::string_view name) const override {
    if (name == "btf_modules") {
      return kHead;
    }
    return fail(Errc::not_found, "no such symbol");
  }
};

BtfBuilder kernel_types() {
  BtfBuilder types;
  const auto number = types.integer("unsigned int", 4);
  const auto pointer = types.pointer(0);
  const auto list = types.structure("list_head", 16, {{"next", pointer, 0}, {"prev", pointer, 64}});
  types.structure("btf", 48, {{"data", pointer, 0}, {"data_size", number, 320}});
  types.structure(
      "btf_module", 40,
      {{"flags", pointer, 0}, {"list", list, 64}, {"module", pointer, 192}, {"btf", pointer, 256}});
  return types;
}

/// A kernel with a list of two entries, of which the second is the module's.
class ModuleBtf : public ::testing::Test {
 protected:
  ModuleBtf() : kernel_(Btf::parse(kernel_types().blob())) {
    if (!kernel_) {
      std::abort();
    }
    link(kHead, kOtherEntry);
    link(kOtherEntry, kEntry);
    link(kEntry, kHead);
    memory_.put(at(kOtherEntry, 16), std::uint64_t{0x5000});  // from the list on: module, btf
    memory_.put(at(kEntry, 16), kModule.value());
    memory_.put(at(kEntry, 24), kBtf.value());
    auto types = kernel_types();
    BtfBuilder module(types.next_type(), types.next_string());
    module.structure("port", 24, {});
    const auto blob = module.blob();
    memory_.put(kBtf, kData.value());
    memory_.put(at(kBtf, 40), static_cast<std::uint32_t>(blob.size()));
    memory_.write(kData, blob);
  }

  static GuestVirtAddr at(GuestVirtAddr base, std::uint64_t offset) {
    return GuestVirtAddr(base.value() + offset);
  }
  void link(GuestVirtAddr from, GuestVirtAddr to) { memory_.put(from, to.value()); }
  Result<Btf> load(GuestVirtAddr module = kModule) const {
    return module_btf(memory_, *kernel_, OneSymbol(), *kernel_, module);
  }
  Errc failure() const {
    const auto btf = load();
    EXPECT_FALSE(btf);
    return btf ? Errc::ambiguous : btf.error().code;
  }

  SparseVirtualMemory memory_;
  Result<Btf> kernel_;
};

TEST_F(ModuleBtf, IsThatOfTheModulesEntry) {
  const auto btf = load();
  ASSERT_TRUE(btf) << btf.error().what;
  EXPECT_EQ(btf->size_of("port"), 24U);
}

TEST_F(ModuleBtf, IsNotFoundOfAModuleWithoutEntry) {
  EXPECT_EQ(load(GuestVirtAddr(0x7777)).error().code, Errc::not_found);
}

TEST_F(ModuleBtf, IsCorruptWhenTheListNeverEnds) {
  link(kOtherEntry, kOtherEntry);
  EXPECT_EQ(failure(), Errc::corrupt);
}

TEST_F(ModuleBtf, IsTornWhenTheListLeadsNowhere) {
  link(kOtherEntry, GuestVirtAddr(0));
  EXPECT_EQ(failure(), Errc::torn);
}

TEST_F(ModuleBtf, IsCorruptWhenItWouldBeHuge) {
  memory_.put(at(kBtf, 40), std::uint32_t{0xffff'ffff});
  EXPECT_EQ(failure(), Errc::corrupt);
}

}  // namespace
}  // namespace vpatch::introspect
