// SPDX-License-Identifier: Apache-2.0
// What a module says about itself in .modinfo, and what is not believed.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

LivepatchSpec with(const std::string& tag, const std::string& value) {
  LivepatchSpec spec;
  spec.set(tag, value);
  return spec;
}

LivepatchSpec without(const std::string& tag) {
  LivepatchSpec spec;
  spec.unset(tag);
  return spec;
}

LivepatchFile accept(const LivepatchSpec& spec) {
  return test::accept(make_livepatch(spec).build());
}

std::string refusal(const LivepatchSpec& spec) {
  return test::refusal(make_livepatch(spec).build());
}

TEST(Modinfo, RefusesModuleWithoutLivepatchMark) {
  EXPECT_THAT(refusal(without("livepatch")),
              EndsWith("not a livepatch: no livepatch=Y in its modinfo"));
}

TEST(Modinfo, RefusesLivepatchMarkOtherThanYes) {
  EXPECT_THAT(refusal(with("livepatch", "N")), HasSubstr("not a livepatch"));
}

TEST(Modinfo, RefusesModuleWithoutVermagic) {
  EXPECT_THAT(refusal(without("vermagic")), HasSubstr("no vermagic"));
}

TEST(Modinfo, RefusesVermagicWithoutRelease) {
  EXPECT_THAT(refusal(with("vermagic", " SMP")), HasSubstr("no vermagic"));
}

TEST(Modinfo, RefusesVermagicWithControlCharacters) {
  EXPECT_THAT(refusal(with("vermagic", "6.1\x1B[31m SMP")),
              EndsWith("modinfo vermagic is not printable"));
}

TEST(Modinfo, TakesReleaseFromVermagic) {
  const auto file = accept(with("vermagic", "6.12.1-amd64 SMP preempt "));
  EXPECT_EQ(file.vermagic, "6.12.1-amd64 SMP preempt ");
  EXPECT_EQ(file.release, "6.12.1-amd64");
}

TEST(Modinfo, TakesReleaseFromVermagicOfOneWord) {
  EXPECT_EQ(accept(with("vermagic", "6.12.1")).release, "6.12.1");
}

TEST(Modinfo, RefusesModuleWithoutName) {
  EXPECT_THAT(refusal(without("name")), EndsWith("no module name in its modinfo"));
}

TEST(Modinfo, RefusesNameWithSlash) {
  EXPECT_THAT(refusal(with("name", "../demo")), HasSubstr("characters other than"));
}

TEST(Modinfo, RefusesNameOf56Bytes) {
  EXPECT_THAT(refusal(with("name", std::string(56, 'a'))), HasSubstr("longer than 55 bytes"));
}

TEST(Modinfo, AcceptsNameOf55Bytes) {
  LivepatchSpec spec = with("name", std::string(55, 'a'));
  spec.name = std::string(55, 'a');
  EXPECT_EQ(accept(spec).name, spec.name);
}

TEST(Modinfo, RefusesNameThatStructModuleDoesNotHave) {
  EXPECT_THAT(refusal(with("name", "other")),
              EndsWith("named other in its modinfo but not in its struct module"));
}

TEST(Modinfo, RefusesNameThatIsOnlyPartOfTheOneInStructModule) {
  EXPECT_THAT(refusal(with("name", "dem")), HasSubstr("not in its struct module"));
}

TEST(Modinfo, UsesFirstOfRepeatedTags) {
  LivepatchSpec spec;
  spec.modinfo.emplace_back("vermagic", "5.0 SMP");
  EXPECT_EQ(accept(spec).release, "6.1.0-56-cloud-amd64");
}

TEST(Modinfo, IgnoresPaddingAndStringsWithoutTag) {
  auto module = make_livepatch();
  auto& bytes = module.elf.section(".modinfo").bytes;
  const auto extra = to_bytes(std::string("\0\0\0nonsense\0version=7\0", 22));
  bytes.insert(bytes.end(), extra.begin(), extra.end());
  EXPECT_EQ(test::accept(module.build()).version, "7");
}

TEST(Modinfo, RefusesLastStringWithoutEnd) {
  auto module = make_livepatch();
  module.elf.section(".modinfo").bytes.pop_back();
  EXPECT_THAT(test::refusal(module.build()), EndsWith(".modinfo does not end with a NUL"));
}

TEST(Modinfo, RefusesModuleWithoutSection) {
  auto module = make_livepatch();
  module.elf.section(".modinfo").name = ".notinfo";
  EXPECT_THAT(test::refusal(module.build()), EndsWith("it has no .modinfo section"));
}

TEST(Modinfo, RefusesSectionThatIsNotLoaded) {
  auto module = make_livepatch();
  module.elf.section(".modinfo").flags = 0;
  EXPECT_THAT(test::refusal(module.build()), EndsWith("it has no .modinfo section"));
}

TEST(Modinfo, RefusesSecondSection) {
  auto module = make_livepatch();
  module.elf.add_section(
      {.name = ".modinfo", .flags = SHF_ALLOC, .bytes = to_bytes(std::string("a=b\0", 4))});
  EXPECT_THAT(test::refusal(module.build()), EndsWith("more than one section .modinfo"));
}

TEST(Modinfo, RefusesModuleWithoutStructModule) {
  auto module = make_livepatch();
  module.elf.section(".gnu.linkonce.this_module").name = ".other";
  EXPECT_THAT(test::refusal(module.build()),
              EndsWith("it has no .gnu.linkonce.this_module section"));
}

TEST(Modinfo, ReadsVersionAndSourceVersion) {
  LivepatchSpec spec = with("version", "1.2-3");
  spec.set("srcversion", "268E04FEAD7E5FDF94DFF70");
  const auto file = accept(spec);
  EXPECT_EQ(file.version, "1.2-3");
  EXPECT_EQ(file.srcversion, "268E04FEAD7E5FDF94DFF70");
}

TEST(Modinfo, LeavesWhatIsMissingEmpty) {
  const auto file = accept(LivepatchSpec{});
  EXPECT_THAT(file.version, IsEmpty());
  EXPECT_THAT(file.srcversion, IsEmpty());
  EXPECT_THAT(file.description, IsEmpty());
  EXPECT_THAT(file.depends, IsEmpty());
}

TEST(Modinfo, SplitsDepends) {
  EXPECT_THAT(accept(with("depends", "ext4,virtio_net")).depends,
              ElementsAre("ext4", "virtio_net"));
}

TEST(Modinfo, ReadsEmptyDependsAsNone) {
  EXPECT_THAT(accept(with("depends", "")).depends, IsEmpty());
}

TEST(Modinfo, RefusesDependsOnImpossibleName) {
  EXPECT_THAT(refusal(with("depends", "ext4,,x")),
              EndsWith("modinfo depends names no valid module"));
}

TEST(Modinfo, KeepsUtf8InDescription) {
  EXPECT_EQ(accept(with("description", "f\xC3\xBCr \xE2\x82\xAC")).description,
            "f\xC3\xBCr \xE2\x82\xAC");
}

TEST(Modinfo, ReplacesControlCharactersInDescription) {
  EXPECT_EQ(accept(with("description", "two\nlines\x1B[31m")).description, "two lines [31m");
}

TEST(Modinfo, ReplacesWhatIsNotUtf8InDescription) {
  EXPECT_EQ(accept(with("description", "f\xFCr")).description, "f?r");
  EXPECT_EQ(accept(with("description", "over \xC0\xAF")).description, "over ??");
  EXPECT_EQ(accept(with("description", "cut \xE2\x82")).description, "cut ??");
  EXPECT_EQ(accept(with("description", "half \xED\xA0\x80")).description, "half ???");
  EXPECT_EQ(accept(with("description", "control \xC2\x9B")).description, "control ??");
}

}  // namespace
}  // namespace vpatch::test
