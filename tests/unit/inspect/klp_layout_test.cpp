// SPDX-License-Identifier: Apache-2.0
// klp_patch structures that can be read.
#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::IsEmpty;

PatchedObject kernel(std::vector<PatchedFunction> functions) {
  return {.name = "vmlinux", .functions = std::move(functions), .callbacks = {}};
}

/// Three objects with several functions each, callbacks and states.
LivepatchSpec large_spec() {
  LivepatchSpec spec;
  spec.contents = {
      .replace = true,
      .objects = {{.name = "vmlinux",
                   .functions = {{"a", 0, "new_a"}, {"b", 1, "new_b"}, {"c", 2, "new_c"}},
                   .callbacks = {.pre_patch = true}},
                  {.name = "virtio_net",
                   .functions = {{"d", 0, "new_d"}},
                   .callbacks = {.post_unpatch = true}},
                  {.name = "ext4",
                   .functions = {{"e", 0, "new_e"}, {"f", 0, "new_f"}},
                   .callbacks = {}}},
      .states = {{7, 2}, {9, 1}}};
  return spec;
}

/// The functions of the first object of `module`, which must be known.
std::vector<PatchedFunction> first_functions(const Livepatch& module) {
  const auto contents = accept(module.build()).contents;
  if (!contents || contents->objects.empty()) {
    ADD_FAILURE() << "no objects";
    return {};
  }
  return contents->objects.front().functions;
}

TEST(KlpLayout, ReadsOneFunction) {
  LivepatchSpec spec;
  spec.contents.objects = {kernel({{"cmdline_proc_show", 0, "new_cmdline"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsReplaceFlag) {
  LivepatchSpec spec;
  spec.contents.replace = true;
  EXPECT_EQ(read_back(spec).replace, true);
}

TEST(KlpLayout, ReadsPositions) {
  LivepatchSpec spec;
  spec.contents.objects = {kernel({{"a", 3, "new_a"}, {"b", ~std::uint64_t{0}, "new_b"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsSeveralFunctions) {
  LivepatchSpec spec;
  spec.contents.objects = {
      kernel({{"a", 0, "na"}, {"b", 0, "nb"}, {"c", 0, "nc"}, {"d", 0, "nd"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsObjectsCallbacksAndStates) {
  const auto spec = large_spec();
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsKernelAfterModules) {
  LivepatchSpec spec;
  spec.contents.objects = {{.name = "ext4", .functions = {{"a", 0, "na"}}, .callbacks = {}},
                           kernel({{"b", 0, "nb"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsCallbacksOfUnnamedSecondObject) {
  LivepatchSpec spec;
  spec.contents.objects = {{.name = "ext4", .functions = {{"a", 0, "na"}}, .callbacks = {}},
                           kernel({{"b", 0, "nb"}})};
  spec.contents.objects[1].callbacks = {.pre_patch = true, .post_patch = true};
  EXPECT_EQ(read_back(spec), spec.contents);
}

class Callback : public testing::TestWithParam<bool PatchCallbacks::*> {};

TEST_P(Callback, IsReadAlone) {
  LivepatchSpec spec;
  spec.contents.objects[0].callbacks.*GetParam() = true;
  EXPECT_EQ(read_back(spec), spec.contents);
}

INSTANTIATE_TEST_SUITE_P(KlpLayout, Callback,
                         testing::Values(&PatchCallbacks::pre_patch, &PatchCallbacks::post_patch,
                                         &PatchCallbacks::pre_unpatch,
                                         &PatchCallbacks::post_unpatch));

TEST(KlpLayout, ReadsNamedSymbols) {
  auto spec = large_spec();
  spec.section_symbols = false;
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsStrippedDataWhereSpacingIsCertain) {
  auto spec = large_spec();
  spec.data_symbols = false;
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsEntriesOfOtherSizes) {
  auto spec = large_spec();
  spec.function_size = 176;
  spec.object_size = 200;
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, LeavesReplacementEmptyWithoutItsSymbol) {
  LivepatchSpec spec;
  spec.text_symbols = false;
  EXPECT_EQ(read_back(spec).objects.at(0).functions,
            std::vector({PatchedFunction{"cmdline_proc_show", 0, ""}}));
}

TEST(KlpLayout, LeavesReplacementEmptyInsideFunction) {
  auto module = make_livepatch();
  module.elf.relocation(module.data, module.functions_at[0] + 8).r_addend += 4;
  EXPECT_EQ(first_functions(module).at(0).replacement, "");
}

TEST(KlpLayout, NamesReplacementInOtherModule) {
  auto module = make_livepatch();
  const auto symbol = module.elf.add_symbol({.name = "elsewhere"});
  auto& relocation = module.elf.relocation(module.data, module.functions_at[0] + 8);
  relocation = {relocation.r_offset, ELF64_R_INFO(symbol, R_X86_64_64), 0};
  EXPECT_EQ(first_functions(module).at(0).replacement, "elsewhere");
}

TEST(KlpLayout, ReadsNop) {
  LivepatchSpec spec;
  spec.contents.objects = {kernel({{"a", 0, "new_a"}, {"b", 1, ""}, {"c", 0, "new_c"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsObjectWithoutFunctions) {
  LivepatchSpec spec;
  spec.contents.objects = {{.name = "ext4", .functions = {}, .callbacks = {.pre_patch = true}}};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsEmptyFunctionArrayInBss) {
  auto module = make_livepatch();
  const auto bss = module.elf.add_section(
      {.name = ".bss", .type = SHT_NOBITS, .flags = SHF_ALLOC | SHF_WRITE, .nobits_size = 152});
  const auto symbol = module.elf.section(bss).section_symbol;
  module.elf.relocation(module.data, module.objects_at + 8) = {
      module.objects_at + 8, ELF64_R_INFO(symbol, R_X86_64_64), 0};
  EXPECT_THAT(first_functions(module), IsEmpty());
}

TEST(KlpLayout, ReadsPatchWithoutObjects) {
  LivepatchSpec spec;
  spec.contents.objects = {};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, KeepsRepeatedStates) {
  LivepatchSpec spec;
  spec.contents.states = {{7, 1}, {7, 2}};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsStateWithData) {
  LivepatchSpec spec;
  spec.contents.states = {{7, 1}};
  auto module = make_livepatch(spec);
  module.elf.relocate(module.data, module.states_at + 16,
                      module.elf.section(module.data).section_symbol, 0);
  EXPECT_EQ(accept(module.build()).contents, spec.contents);
}

TEST(KlpLayout, ReadsStrippedStates) {
  LivepatchSpec spec;
  spec.contents.states = {{7, 1}, {8, 1}};
  spec.data_symbols = false;
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, ReadsNameOf511Bytes) {
  LivepatchSpec spec;
  spec.contents.objects = {kernel({{std::string(511, 'f'), 0, "new_f"}})};
  EXPECT_EQ(read_back(spec), spec.contents);
}

TEST(KlpLayout, FindsPatchAddressedRelativeToTheInstruction) {
  auto module = make_livepatch();
  // lea patch(%rip), %rdi
  auto& relocation = module.elf.relocation(module.init_text, 3);
  const auto symbol = module.elf.section(module.data).section_symbol;
  relocation.r_info = ELF64_R_INFO(symbol, R_X86_64_PC32);
  relocation.r_addend = static_cast<std::int64_t>(module.patch_at) - 4;
  std::ranges::copy(to_bytes("\x48\x8d\x3d"), module.elf.section(module.init_text).bytes.begin());
  EXPECT_EQ(accept(module.build()).contents, LivepatchSpec{}.contents);
}

TEST(KlpLayout, PassesOverWhatIsStoredToJustBeforeTheCall) {
  auto module = make_livepatch();
  auto& data = module.elf.section(module.data);
  const auto symbol = data.section_symbol;
  const auto other = static_cast<std::int64_t>(data.bytes.size());
  data.bytes.resize(data.bytes.size() + 64);
  module.elf.relocate(module.data, static_cast<std::uint64_t>(other) + 8, symbol, 0);
  // mov $patch, %rdi; mov %rax, other(%rip); call klp_enable_patch
  module.elf.drop_relocation(module.init_text, 8);
  std::ranges::copy(to_bytes(std::string("\x48\x89\x05\0\0\0\0\xe8", 8)),
                    module.elf.section(module.init_text).bytes.begin() + 7);
  module.elf.relocate(module.init_text, 10, symbol, other - 4, R_X86_64_PC32);
  module.elf.relocate(module.init_text, 15, module.enable_symbol, -4, R_X86_64_PLT32);
  EXPECT_EQ(accept(module.build()).contents, LivepatchSpec{}.contents);
}

TEST(KlpLayout, PassesOverOwnedStructuresThatAreNotEnabled) {
  auto module = make_livepatch();
  auto& data = module.elf.section(module.data);
  const auto other = data.bytes.size();
  data.bytes.resize(other + 64);
  module.elf.relocate(module.data, other, module.this_module_symbol, 0);
  module.elf.relocate(module.data, other + 8, data.section_symbol, 0);
  EXPECT_EQ(accept(module.build()).contents, LivepatchSpec{}.contents);
}

TEST(KlpLayout, IgnoresRelocationsOfSectionsThatAreNotLoaded) {
  auto module = make_livepatch();
  const auto debug = module.elf.add_section({.name = ".debug_info", .bytes = Bytes(16)});
  module.elf.relocate(debug, 4096, 0, 0, R_X86_64_32);
  EXPECT_EQ(accept(module.build()).contents, LivepatchSpec{}.contents);
}

}  // namespace
}  // namespace vpatch::test
