// SPDX-License-Identifier: Apache-2.0
// Modules as kpatch-build and klp-build lay them out.
#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// A livepatch without a klp_patch in its data, to which such sections are added.
class BuiltModule {
 public:
  BuiltModule() : module_(make_livepatch()) {
    module_.elf.drop_relocation(module_.data, module_.patch_at);
    strings_ = elf().add_section({.name = ".rodata.str1.8", .flags = SHF_ALLOC});
    code_ = elf().add_symbol(
        {.name = "new_code", .type = STT_FUNC, .section = module_.text, .value = 0, .size = 16});
  }

  ElfBuilder& elf() { return module_.elf; }
  Bytes build() { return module_.build(); }

  std::uint32_t add(const std::string& name, std::size_t size) {
    return elf().add_section({.name = name, .flags = SHF_ALLOC | SHF_WRITE, .bytes = Bytes(size)});
  }
  void point_at_string(std::uint32_t section, std::uint64_t offset, const std::string& text) {
    Bytes& strings = elf().section(strings_).bytes;
    const auto at = static_cast<std::int64_t>(strings.size());
    const Bytes bytes = to_bytes(text + std::string(1, '\0'));
    strings.insert(strings.end(), bytes.begin(), bytes.end());
    elf().relocate(section, offset, elf().section(strings_).section_symbol, at);
  }
  void point_at_code(std::uint32_t section, std::uint64_t offset) {
    elf().relocate(section, offset, code_, 0);
  }

 private:
  Livepatch module_;
  std::uint32_t strings_ = 0;
  std::uint32_t code_ = 0;
};

/// struct kpatch_patch_func.
void put_kpatch_function(BuiltModule& module, std::uint32_t section, std::uint64_t at,
                         const std::string& object, const std::string& name,
                         std::uint64_t position) {
  module.point_at_code(section, at);
  put(module.elf().section(section).bytes, at + 16, std::uint64_t{0xffffffff81000000});
  put(module.elf().section(section).bytes, at + 32, position);
  module.point_at_string(section, at + 40, name);
  module.point_at_string(section, at + 48, object);
}

/// vmlinux:f and ext4:g, a callback of each kind of object.
BuiltModule kpatch_module() {
  BuiltModule module;
  const auto funcs = module.add(".kpatch.funcs", 3 * 56);
  put_kpatch_function(module, funcs, 0, "vmlinux", "f", 0);
  put_kpatch_function(module, funcs, 56, "ext4", "g", 2);
  put_kpatch_function(module, funcs, 112, "vmlinux", "h", 1);
  const auto callbacks = module.add(".kpatch.callbacks.pre_patch", 16 + 8);
  module.point_at_code(callbacks, 0);
  module.point_at_string(callbacks, 8, "vmlinux");
  module.add(".kpatch.callbacks.post_patch", 8);
  const auto last = module.add(".kpatch.callbacks.post_unpatch", 16 + 8);
  module.point_at_code(last, 0);
  module.point_at_string(last, 8, "xfs");
  return module;
}

/// struct klp_object_ext and klp_func_ext: vmlinux:f and h, ext4:g with a pre-patch callback.
BuiltModule klp_build_module(const std::string& section = ".init.klp_objects") {
  BuiltModule module;
  const auto funcs = module.add(".init.klp_funcs", 3 * 24);
  const std::pair<const char*, std::uint64_t> functions[] = {{"f", 0}, {"h", 3}, {"g", 1}};
  for (std::uint64_t at = 0; at < 3; ++at) {
    module.point_at_string(funcs, at * 24, functions[at].first);
    module.point_at_code(funcs, at * 24 + 8);
    put(module.elf().section(funcs).bytes, at * 24 + 16, functions[at].second);
  }
  const auto objects = module.add(section, 2 * 64);
  const auto symbol = module.elf().section(funcs).section_symbol;
  module.elf().relocate(objects, 8, symbol, 0);
  put(module.elf().section(objects).bytes, 56, std::uint32_t{2});
  module.point_at_string(objects, 64, "ext4");
  module.elf().relocate(objects, 64 + 8, symbol, 48);
  module.point_at_code(objects, 64 + 16);
  put(module.elf().section(objects).bytes, 64 + 56, std::uint32_t{1});
  return module;
}

TEST(KpatchBuild, FunctionsAndCallbacksAreRead) {
  const auto file = accept(kpatch_module().build());
  ASSERT_TRUE(file.contents.has_value()) << file.contents_unknown;
  const PatchContents expected{
      .replace = std::nullopt,
      .objects = {{.name = "vmlinux",
                   .functions = {{"f", 0, "new_code"}, {"h", 1, "new_code"}},
                   .callbacks = {.pre_patch = true}},
                  {.name = "ext4", .functions = {{"g", 2, "new_code"}}, .callbacks = {}},
                  {.name = "xfs", .functions = {}, .callbacks = {.post_unpatch = true}}},
      .states = {}};
  EXPECT_EQ(*file.contents, expected);
}

TEST(KpatchBuild, IsUnknownWithEntriesOfAnotherSize) {
  BuiltModule module;
  module.add(".kpatch.funcs", 64);
  EXPECT_THAT(unknown_reason(module.build()),
              StartsWith("built by kpatch-build, in a form that is not known here: "));
}

TEST(KpatchBuild, IsUnknownWithoutAName) {
  auto module = kpatch_module();
  auto& relocations = module.elf().section(".kpatch.funcs").relocations;
  std::erase_if(relocations, [](const Elf64_Rela& r) { return r.r_offset == 40; });
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("has no name"));
}

TEST(KpatchBuild, IsUnknownWithoutItsFunctions) {
  BuiltModule module;
  module.add(".kpatch.force", 8);
  EXPECT_EQ(unknown_reason(module.build()), "built by kpatch-build, without a list of functions");
}

TEST(KpatchBuild, IsUnknownWithTooManyObjects) {
  constexpr std::uint64_t kTooMany = 4097;
  BuiltModule module;
  const auto funcs = module.add(".kpatch.funcs", kTooMany * 56);
  for (std::uint64_t at = 0; at < kTooMany; ++at) {
    put_kpatch_function(module, funcs, at * 56, "m" + std::to_string(at), "f", 0);
  }
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("more than 4096 objects"));
}

TEST(KlpBuild, IsUnknownWithTooManyObjects) {
  BuiltModule module;
  module.add(".init.klp_objects", std::size_t{4097} * 64);
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("more than 4096 objects"));
}

TEST(KlpBuild, ObjectsFunctionsAndCallbacksAreRead) {
  for (const char* const section : {".init.klp_objects", "__klp_objects"}) {
    const auto file = accept(klp_build_module(section).build());
    ASSERT_TRUE(file.contents.has_value()) << file.contents_unknown;
    const PatchContents expected{
        .replace = std::nullopt,
        .objects = {{.name = "vmlinux",
                     .functions = {{"f", 0, "new_code"}, {"h", 3, "new_code"}},
                     .callbacks = {}},
                    {.name = "ext4",
                     .functions = {{"g", 1, "new_code"}},
                     .callbacks = {.pre_patch = true}}},
        .states = {}};
    EXPECT_EQ(*file.contents, expected) << section;
  }
}

TEST(KlpBuild, IsUnknownWithEntriesOfAnotherSize) {
  BuiltModule module;
  module.add(".init.klp_objects", 24);
  EXPECT_THAT(unknown_reason(module.build()),
              StartsWith("built by klp-build, in a form that is not known here: "));
}

TEST(KlpBuild, IsUnknownWithMoreFunctionsThanThereAre) {
  for (const std::uint32_t count : {4U, 65537U, ~0U}) {
    auto module = klp_build_module();
    put(module.elf().section(".init.klp_objects").bytes, 56, count);
    EXPECT_THAT(unknown_reason(module.build()), StartsWith("built by klp-build, ")) << count;
  }
}

TEST(KlpBuild, IsUnknownWithACountButNoFunctions) {
  auto module = klp_build_module();
  auto& relocations = module.elf().section(".init.klp_objects").relocations;
  std::erase_if(relocations, [](const Elf64_Rela& r) { return r.r_offset == 8; });
  EXPECT_THAT(unknown_reason(module.build()), HasSubstr("an object without its functions"));
}

}  // namespace
}  // namespace vpatch::test
