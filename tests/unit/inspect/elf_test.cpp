// SPDX-License-Identifier: Apache-2.0
// What kind of file it is, and whether it is complete.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/inspect/inspect_support.h"

namespace vpatch::test {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr std::size_t kType = offsetof(Elf64_Ehdr, e_type);
constexpr std::size_t kMachine = offsetof(Elf64_Ehdr, e_machine);

/// A good module with one field of its ELF header changed.
template <class T>
Bytes with_header(std::size_t offset, T value) {
  auto file = make_livepatch().build();
  put(file, offset, value);
  return file;
}

/// A good module with the field at `offset` of the header of `section` changed.
template <class T>
Bytes with_section_header(std::string_view section, std::size_t offset, T value) {
  auto file = make_livepatch().build();
  put(file, section_header(file, section) + offset, value);
  return file;
}

TEST(Elf, RefusesEmptyBytes) {
  EXPECT_EQ(refusal({}), "demo.ko: empty file");
}

TEST(Elf, RefusesMoreThanLimit) {
  EXPECT_THAT(refusal(Bytes((std::size_t{64} << 20) + 1)), EndsWith("larger than 64 MiB"));
}

TEST(Elf, RefusesTextFile) {
  EXPECT_EQ(refusal(to_bytes("#!/bin/sh\n")), "demo.ko: not an ELF file");
}

struct Compressed {
  std::string magic;
  std::string what;
  std::string command;
};

class CompressedModule : public testing::TestWithParam<Compressed> {};

TEST_P(CompressedModule, IsRefusedWithTheCommandThatHelps) {
  const auto parsed = parse_livepatch(to_bytes(GetParam().magic + "rest of the file"), "demo.ko");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().outcome, Outcome::refused);
  EXPECT_EQ(parsed.error().what, "demo.ko: compressed with " + GetParam().what);
  EXPECT_EQ(parsed.error().hint, "Decompress it first: " + GetParam().command + " FILE.");
}

INSTANTIATE_TEST_SUITE_P(Elf, CompressedModule,
                         testing::Values(Compressed{std::string("\xFD"
                                                                "7zXZ\0",
                                                                6),
                                                    "xz", "xz -d"},
                                         Compressed{"\x1F\x8B", "gzip", "gzip -d"},
                                         Compressed{"\x28\xB5\x2F\xFD", "zstd", "zstd -d"}),
                         [](const auto& tested) { return tested.param.what; });

TEST(Elf, Refuses32BitFile) {
  EXPECT_THAT(refusal(with_header(EI_CLASS, std::uint8_t{ELFCLASS32})),
              EndsWith("a 32-bit ELF file, not x86-64"));
}

TEST(Elf, RefusesBigEndianFile) {
  EXPECT_THAT(refusal(with_header(EI_DATA, std::uint8_t{ELFDATA2MSB})),
              EndsWith("a big-endian ELF file, not x86-64"));
}

TEST(Elf, NamesForeignMachine) {
  EXPECT_THAT(refusal(with_header(kMachine, std::uint16_t{EM_AARCH64})),
              EndsWith("built for AArch64, not x86-64"));
}

TEST(Elf, NumbersUnknownMachine) {
  EXPECT_THAT(refusal(with_header(kMachine, std::uint16_t{9999})),
              EndsWith("built for ELF machine 9999, not x86-64"));
}

TEST(Elf, RefusesExecutable) {
  EXPECT_THAT(refusal(with_header(kType, std::uint16_t{ET_EXEC})),
              EndsWith("an executable, not a kernel module"));
}

TEST(Elf, RefusesSharedObject) {
  EXPECT_THAT(refusal(with_header(kType, std::uint16_t{ET_DYN})),
              EndsWith("a shared object or executable, not a kernel module"));
}

TEST(Elf, RefusesCoreDump) {
  EXPECT_THAT(refusal(with_header(kType, std::uint16_t{ET_CORE})),
              EndsWith("a core dump, not a kernel module"));
}

TEST(Elf, RefusesSectionTableInExtendedNumbering) {
  EXPECT_THAT(refusal(with_header(offsetof(Elf64_Ehdr, e_shnum), std::uint16_t{0})),
              EndsWith("no section table"));
}

TEST(Elf, RefusesSectionTableAtHugeOffset) {
  EXPECT_THAT(refusal(with_header(offsetof(Elf64_Ehdr, e_shoff), ~std::uint64_t{0})),
              EndsWith("truncated: the section table runs past the end of the file"));
}

TEST(Elf, RefusesSectionPastEndOfFile) {
  EXPECT_THAT(
      refusal(with_section_header(".text", offsetof(Elf64_Shdr, sh_size), std::uint64_t{1} << 30)),
      EndsWith("truncated: section 1 runs past the end of the file"));
}

TEST(Elf, RefusesSectionWhoseEndOverflows) {
  EXPECT_THAT(
      refusal(with_section_header(".text", offsetof(Elf64_Shdr, sh_offset), ~std::uint64_t{0} - 8)),
      HasSubstr("truncated: section 1"));
}

TEST(Elf, RefusesOverlappingSections) {
  const auto file = make_livepatch().build();
  const auto text = get<Elf64_Shdr>(file, section_header(file, ".text"));
  EXPECT_THAT(
      refusal(with_section_header(".data", offsetof(Elf64_Shdr, sh_offset), text.sh_offset)),
      HasSubstr("overlaps another section"));
}

TEST(Elf, RefusesSectionOverHeaders) {
  EXPECT_THAT(
      refusal(with_section_header(".text", offsetof(Elf64_Shdr, sh_offset), std::uint64_t{0})),
      EndsWith("section 1 overlaps the ELF's headers"));
}

TEST(Elf, RefusesTrailingBytes) {
  auto file = make_livepatch().build();
  file.push_back(std::byte{0});
  EXPECT_EQ(refusal(file), "demo.ko: 1 trailing bytes after the end of the module");
}

TEST(Elf, RefusesModuleWithoutSymbolTable) {
  EXPECT_THAT(refusal(with_section_header(".symtab", offsetof(Elf64_Shdr, sh_type),
                                          std::uint32_t{SHT_PROGBITS})),
              HasSubstr("no symbol table"));
}

TEST(Elf, RefusesSecondSymbolTable) {
  EXPECT_THAT(refusal(with_section_header(".strtab", offsetof(Elf64_Shdr, sh_type),
                                          std::uint32_t{SHT_SYMTAB})),
              EndsWith("more than one symbol table"));
}

TEST(Elf, RefusesSymbolEntriesOfWrongSize) {
  EXPECT_THAT(
      refusal(with_section_header(".symtab", offsetof(Elf64_Shdr, sh_entsize), std::uint64_t{16})),
      EndsWith("section .symtab has entries of a wrong size"));
}

TEST(Elf, RefusesSymbolInSectionThatIsNotThere) {
  auto module = make_livepatch();
  module.elf.symbols().back().section = 200;
  EXPECT_THAT(refusal(module.build()), EndsWith("is in no section of the file"));
}

TEST(Elf, RefusesSymbolWhoseNameIsOutsideTheTable) {
  auto file = make_livepatch().build();
  const auto symbols = get<Elf64_Shdr>(file, section_header(file, ".symtab"));
  put(file, symbols.sh_offset + sizeof(Elf64_Sym), std::uint32_t{0x10000});
  EXPECT_THAT(refusal(file), EndsWith("symbol 1 has no valid name"));
}

TEST(Elf, RefusesRelocationOutsideItsSection) {
  auto module = make_livepatch();
  module.elf.relocation(module.data, module.patch_at).r_offset = 0x100000;
  EXPECT_THAT(refusal(module.build()), EndsWith("a relocation lies outside .data"));
}

TEST(Elf, RefusesRelocationThatCrossesTheEndOfItsSection) {
  auto module = make_livepatch();
  module.elf.relocation(module.data, module.patch_at).r_offset =
      module.elf.section(module.data).bytes.size() - 7;
  EXPECT_THAT(refusal(module.build()), EndsWith("a relocation lies outside .data"));
}

TEST(Elf, RefusesRelocationOfSymbolThatIsNotThere) {
  auto module = make_livepatch();
  module.elf.relocation(module.data, module.patch_at).r_info = ELF64_R_INFO(1000000, R_X86_64_64);
  EXPECT_THAT(refusal(module.build()), EndsWith("a relocation names no symbol"));
}

TEST(Elf, RefusesRelocationsOfSectionThatIsNotThere) {
  EXPECT_THAT(
      refusal(with_section_header(".rela.data", offsetof(Elf64_Shdr, sh_info), std::uint32_t{200})),
      EndsWith(".rela.data changes no section of the file"));
}

TEST(Elf, RefusesRelocationsWithoutAddends) {
  EXPECT_THAT(refusal(with_section_header(".rela.data", offsetof(Elf64_Shdr, sh_type),
                                          std::uint32_t{SHT_REL})),
              EndsWith("x86-64 has no REL relocations"));
}

TEST(Elf, RefusesHugeSectionThatTakesNoRoomInTheFile) {
  auto module = make_livepatch();
  module.elf.add_section({.name = ".bss",
                          .type = SHT_NOBITS,
                          .flags = SHF_ALLOC | SHF_WRITE,
                          .nobits_size = ~std::uint64_t{0}});
  EXPECT_THAT(refusal(module.build()), HasSubstr("claims 18446744073709551615 bytes"));
}

TEST(Elf, ReadsBuildId) {
  EXPECT_EQ(accept(make_livepatch().build()).build_id, "01020304");
}

TEST(Elf, LeavesBuildIdEmptyWhenItsNoteIsOfAnotherType) {
  auto module = make_livepatch();
  module.elf.section(".note.gnu.build-id").bytes[8] = std::byte{1};
  EXPECT_EQ(accept(module.build()).build_id, "");
}

TEST(Elf, LeavesBuildIdEmptyWhenItsNoteDoesNotFit) {
  auto module = make_livepatch();
  put(module.elf.section(".note.gnu.build-id").bytes, 4, std::uint32_t{0xFFFFFFF0});
  EXPECT_EQ(accept(module.build()).build_id, "");
}

TEST(Elf, ComputesChecksumOfWholeFile) {
  const auto plain = accept(make_livepatch().build());
  const auto signed_one = accept(append_signature(make_livepatch().build(), 16));
  EXPECT_THAT(plain.sha256, testing::MatchesRegex("[0-9a-f]{64}"));
  EXPECT_NE(plain.sha256, signed_one.sha256);
}

}  // namespace
}  // namespace vpatch::test
