// SPDX-License-Identifier: Apache-2.0
// klp_patch structures that contradict themselves: refused.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr std::uint64_t kOldName = 0;
constexpr std::uint64_t kNewFunc = 8;
constexpr std::uint64_t kSympos = 16;
constexpr std::uint64_t kFunctionSize = 152;

/// A module with two functions and one state, to be broken.
Livepatch make_module() {
  LivepatchSpec spec;
  spec.contents.objects[0].functions = {{"first", 0, "new_first"}, {"second", 0, "new_second"}};
  spec.contents.states = {{7, 1}};
  return make_livepatch(spec);
}

/// Lets the relocation at `offset` of .data refer to `section` + `addend`.
void redirect(Livepatch& module, std::uint64_t offset, std::uint32_t section, std::int64_t addend) {
  const auto symbol = module.elf.section(section).section_symbol;
  module.elf.relocation(module.data, offset) = {offset, ELF64_R_INFO(symbol, R_X86_64_64), addend};
}

TEST(KlpCorrupt, ObjectsOutsideTheirSection) {
  auto module = make_module();
  redirect(module, module.patch_at + 8, module.data, 1 << 20);
  EXPECT_THAT(refusal(module.build()), HasSubstr("a pointer outside '.data'"));
}

TEST(KlpCorrupt, ObjectsAtNegativeOffset) {
  auto module = make_module();
  redirect(module, module.patch_at + 8, module.data, -8);
  EXPECT_THAT(refusal(module.build()), HasSubstr("a pointer outside '.data'"));
}

TEST(KlpCorrupt, ObjectsAtTheVeryEndOfTheirSection) {
  auto module = make_module();
  redirect(module, module.patch_at + 8, module.data,
           static_cast<std::int64_t>(module.elf.section(module.data).bytes.size()) - 4);
  EXPECT_THAT(refusal(module.build()), EndsWith("a klp_object array without an empty entry"));
}

TEST(KlpCorrupt, PointerWithRelocationOfOtherType) {
  auto module = make_module();
  auto& relocation = module.elf.relocation(module.data, module.patch_at + 8);
  relocation.r_info = ELF64_R_INFO(ELF64_R_SYM(relocation.r_info), R_X86_64_32S);
  EXPECT_THAT(refusal(module.build()), HasSubstr("does not make a pointer"));
}

TEST(KlpCorrupt, PointerRelocatedTwice) {
  auto module = make_module();
  module.elf.relocate(module.data, module.patch_at + 8,
                      module.elf.section(module.data).section_symbol, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("does not make a pointer"));
}

TEST(KlpCorrupt, PointerWithFixedValue) {
  auto module = make_module();
  put(module.elf.section(module.data).bytes, module.patch_at + 8, std::uint64_t{64});
  EXPECT_THAT(refusal(module.build()), HasSubstr("has a fixed value"));
}

TEST(KlpCorrupt, PointerToAbsoluteSymbol) {
  auto module = make_module();
  const auto symbol = module.elf.add_symbol({.name = "fixed", .section = SHN_ABS, .value = 64});
  module.elf.relocation(module.data, module.functions_at[0]).r_info =
      ELF64_R_INFO(symbol, R_X86_64_64);
  EXPECT_THAT(refusal(module.build()), HasSubstr("a pointer to no section of the module"));
}

TEST(KlpCorrupt, PointerToSectionThatIsNotLoaded) {
  auto module = make_module();
  const auto debug = module.elf.add_section({.name = ".debug_str", .bytes = Bytes(16)});
  redirect(module, module.functions_at[0], debug, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("a pointer to '.debug_str', which is not loaded"));
}

TEST(KlpCorrupt, ReplaceThatIsNoBoolean) {
  auto module = make_module();
  module.elf.section(module.data).bytes[module.patch_at + 24] = std::byte{2};
  EXPECT_THAT(refusal(module.build()), EndsWith("klp_patch.replace is neither true nor false"));
}

TEST(KlpCorrupt, ObjectWithoutFunctionArray) {
  LivepatchSpec spec;
  spec.contents.objects[0].name = "ext4";
  auto module = make_livepatch(spec);
  module.elf.drop_relocation(module.data, module.objects_at + 8);
  EXPECT_THAT(refusal(module.build()), EndsWith("klp_object.funcs is NULL"));
}

TEST(KlpCorrupt, ObjectWhoseFunctionArrayIsCode) {
  auto module = make_module();
  redirect(module, module.objects_at + 8, module.text, 0);
  EXPECT_THAT(refusal(module.build()), EndsWith("klp_object.funcs is not in the module's data"));
}

TEST(KlpCorrupt, ObjectNameThatNoModuleCanHave) {
  LivepatchSpec spec;
  spec.contents.objects[0].name = "no/module";
  EXPECT_THAT(refusal(make_livepatch(spec).build()),
              EndsWith("an object named \"no/module\", which no module can be"));
}

TEST(KlpCorrupt, ObjectForModuleNamedLikeTheKernel) {
  LivepatchSpec spec;
  spec.contents.objects[0].name = "ext4000";
  auto module = make_livepatch(spec);
  auto& strings = module.elf.section(module.strings).bytes;
  std::ranges::copy(to_bytes("vmlinux"), strings.begin());
  EXPECT_THAT(refusal(module.build()), EndsWith("an object for a module named \"vmlinux\""));
}

TEST(KlpCorrupt, CallbackThatIsData) {
  LivepatchSpec spec;
  spec.contents.objects[0].callbacks.pre_patch = true;
  auto module = make_livepatch(spec);
  redirect(module, module.objects_at + 16, module.data, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("points at data"));
}

TEST(KlpCorrupt, ReplacementThatIsData) {
  auto module = make_module();
  redirect(module, module.functions_at[0] + kNewFunc, module.data, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("points at data"));
}

TEST(KlpCorrupt, FunctionWithoutName) {
  auto module = make_module();
  module.elf.drop_relocation(module.data, module.functions_at[0] + kOldName);
  EXPECT_THAT(refusal(module.build()), HasSubstr("has no name"));
}

TEST(KlpCorrupt, EntryWithNothingButPosition) {
  auto module = make_module();
  put(module.elf.section(module.data).bytes, module.functions_at[0] + 2 * kFunctionSize + kSympos,
      std::uint64_t{1});
  EXPECT_THAT(refusal(module.build()), HasSubstr("has no name"));
}

TEST(KlpCorrupt, PositionWithRelocation) {
  auto module = make_module();
  module.elf.relocate(module.data, module.functions_at[0] + kSympos, module.this_module_symbol, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("where a number is"));
}

TEST(KlpCorrupt, NameInCode) {
  auto module = make_module();
  redirect(module, module.functions_at[0] + kOldName, module.text, 0);
  EXPECT_THAT(refusal(module.build()), EndsWith("a name that is not in the module's data"));
}

TEST(KlpCorrupt, NameOutsideTheModule) {
  auto module = make_module();
  module.elf.relocation(module.data, module.functions_at[0]).r_info =
      ELF64_R_INFO(module.enable_symbol, R_X86_64_64);
  EXPECT_THAT(refusal(module.build()), EndsWith("a name that is not in the module's data"));
}

TEST(KlpCorrupt, NameWithoutEnd) {
  auto module = make_module();
  module.elf.section(module.strings).bytes.pop_back();
  EXPECT_THAT(refusal(module.build()), EndsWith("does not end"));
}

TEST(KlpCorrupt, NameOf512Bytes) {
  LivepatchSpec spec;
  spec.contents.objects[0].functions[0].name = std::string(512, 'f');
  EXPECT_THAT(refusal(make_livepatch(spec).build()), EndsWith("is too long"));
}

TEST(KlpCorrupt, NameWithControlCharacter) {
  LivepatchSpec spec;
  spec.contents.objects[0].functions[0].name = "bad\x1B";
  EXPECT_THAT(refusal(make_livepatch(spec).build()), EndsWith("is empty or not printable"));
}

TEST(KlpCorrupt, EmptyName) {
  LivepatchSpec spec;
  spec.contents.objects[0].functions[0].name = "";
  EXPECT_THAT(refusal(make_livepatch(spec).build()), EndsWith("is empty or not printable"));
}

TEST(KlpCorrupt, FunctionArrayWithoutEmptyEntry) {
  auto module = make_module();
  for (auto& symbol : module.elf.symbols()) {
    if (symbol.name == "funcs") symbol.size -= kFunctionSize;
  }
  EXPECT_THAT(refusal(module.build()), EndsWith("a klp_func array without an empty entry"));
}

TEST(KlpCorrupt, ObjectArrayWithoutEmptyEntry) {
  auto module = make_module();
  for (auto& symbol : module.elf.symbols()) {
    if (symbol.name == "objs") symbol.size -= 168;
  }
  EXPECT_THAT(refusal(module.build()), EndsWith("a klp_object array without an empty entry"));
}

TEST(KlpCorrupt, StatesWithoutEmptyEntry) {
  auto module = make_module();
  for (auto& symbol : module.elf.symbols()) {
    if (symbol.name == "states") symbol.size -= 24;
  }
  EXPECT_THAT(refusal(module.build()),
              EndsWith("klp_patch.states does not end with an empty entry"));
}

TEST(KlpCorrupt, StateWhoseIdIsPointer) {
  auto module = make_module();
  module.elf.relocate(module.data, module.states_at, module.this_module_symbol, 0);
  EXPECT_THAT(refusal(module.build()), HasSubstr("where a number is"));
}

TEST(KlpCorrupt, MoreObjectsThanTheLimit) {
  LivepatchSpec spec;
  spec.object_size = 168;
  spec.contents.objects.assign(4097, {.name = "ext4", .functions = {}, .callbacks = {}});
  EXPECT_THAT(refusal(make_livepatch(spec).build()), EndsWith("more than 4096 objects"));
}

TEST(KlpCorrupt, MoreFunctionsInAllObjectsThanTheLimit) {
  LivepatchSpec spec;
  spec.contents.objects.assign(2,
                               {.name = "vmlinux", .functions = {{"f", 0, ""}}, .callbacks = {}});
  spec.contents.objects[0].functions.assign(40000, {"f", 0, ""});
  auto module = make_livepatch(spec);
  // Both objects share one array of 40000.
  redirect(module, module.objects_at + 168 + 8, module.data,
           static_cast<std::int64_t>(module.functions_at[0]));
  EXPECT_THAT(refusal(module.build()), EndsWith("more than 65536 functions"));
}

TEST(KlpCorrupt, MoreStatesThanTheLimit) {
  LivepatchSpec spec;
  spec.contents.states.assign(4097, {7, 1});
  EXPECT_THAT(refusal(make_livepatch(spec).build()), EndsWith("more than 4096 states"));
}

TEST(KlpCorrupt, PatchOfAnotherModule) {
  auto module = make_livepatch();
  module.elf.drop_relocation(module.data, module.patch_at);
  EXPECT_THAT(refusal(module.build()), EndsWith("is not this module's struct module"));
}

TEST(KlpCorrupt, OwnerThatIsNotTheStartOfStructModule) {
  auto module = make_livepatch();
  module.elf.relocation(module.data, module.patch_at).r_addend = 8;
  EXPECT_THAT(refusal(module.build()), EndsWith("is not this module's struct module"));
}

}  // namespace
}  // namespace vpatch::test
