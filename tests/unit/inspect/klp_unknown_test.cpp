// SPDX-License-Identifier: Apache-2.0
// Livepatches whose contents cannot be told from the file: taken, and said to be unknown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

TEST(KlpUnknown, NoCallOfEnable) {
  auto module = make_livepatch();
  module.elf.symbols()[module.enable_symbol].name = "klp_disable_patch";
  EXPECT_EQ(unknown_reason(module.build()), "its code does not call klp_enable_patch()");
}

TEST(KlpUnknown, PatchThatCodeDoesNotReferTo) {
  auto module = make_livepatch();
  module.elf.drop_relocation(module.init_text, 3);
  EXPECT_EQ(unknown_reason(module.build()), "no klp_patch structure is in its data");
}

TEST(KlpUnknown, OwnedStructureWithFunctionsLikeFileOperations) {
  auto module = make_livepatch();
  auto& objs = module.elf.relocation(module.data, module.patch_at + 8);
  objs = {objs.r_offset, ELF64_R_INFO(module.elf.section(module.text).section_symbol, R_X86_64_64),
          0};
  EXPECT_EQ(unknown_reason(module.build()), "no klp_patch structure is in its data");
}

TEST(KlpUnknown, SeveralPatches) {
  auto module = make_livepatch();
  auto& data = module.elf.section(module.data);
  const auto other = data.bytes.size();
  const auto symbol = data.section_symbol;
  data.bytes.resize(other + 64);
  module.elf.relocate(module.data, other, module.this_module_symbol, 0);
  module.elf.relocate(module.data, other + 8, symbol, 0);
  module.elf.relocate(module.init_text, 20, symbol, static_cast<std::int64_t>(other), R_X86_64_32S);
  EXPECT_EQ(unknown_reason(module.build()), "more than one klp_patch structure is in its data");
}

TEST(KlpUnknown, StrippedArrayFollowedByOtherPointers) {
  LivepatchSpec spec;
  spec.data_symbols = false;
  auto module = make_livepatch(spec);
  auto& data = module.elf.section(module.data);
  const auto other = data.bytes.size();
  data.bytes.resize(other + 16);
  module.elf.relocate(module.data, other, data.section_symbol, 0);
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("ends cannot be told without its symbol"));
}

TEST(KlpUnknown, EntriesOfUnexpectedSize) {
  LivepatchSpec spec;
  spec.function_size = 400;
  spec.contents.objects[0].functions = {{"a", 0, "new_a"}, {"b", 0, "new_b"}};
  EXPECT_THAT(unknown_reason(make_livepatch(spec).build()),
              HasSubstr("where the klp_func array at '.data'+0x"));
}

TEST(KlpUnknown, HoleBetweenEntries) {
  LivepatchSpec spec;
  spec.contents.objects[0].functions = {{"a", 0, "new_a"}, {"b", 0, "new_b"}, {"c", 0, "new_c"}};
  auto module = make_livepatch(spec);
  module.elf.drop_relocation(module.data, module.functions_at[0] + 152);
  module.elf.drop_relocation(module.data, module.functions_at[0] + 160);
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("ends cannot be told"));
}

TEST(KlpUnknown, StatesOfUnexpectedSize) {
  LivepatchSpec spec;
  spec.contents.states = {{7, 1}};
  auto module = make_livepatch(spec);
  for (auto& symbol : module.elf.symbols()) {
    if (symbol.name == "states") symbol.size += 16;
  }
  EXPECT_EQ(unknown_reason(module.build()),
            "the entries of klp_patch.states have a size that is not known");
}

TEST(KlpUnknown, FieldsThatAreNotKnown) {
  auto module = make_livepatch();
  module.elf.relocate(module.data, module.functions_at[0] + 24, module.this_module_symbol, 0);
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("has fields set that are not known"));
}

}  // namespace
}  // namespace vpatch::test
