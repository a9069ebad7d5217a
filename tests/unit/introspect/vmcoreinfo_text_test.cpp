// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/vmcoreinfo_text.h"

#include <string>

#include <gtest/gtest.h>

namespace vpatch::introspect {
namespace {

const std::string kLeast = "OSRELEASE=6.1.0-56-cloud-amd64\nPAGESIZE=4096\n";

/// What kLeast with `more` after it is refused for; empty when it is not refused.
std::string refusal(const std::string& text) {
  const auto parsed = parse_vmcoreinfo(text);
  if (parsed) {
    return "";
  }
  EXPECT_EQ(parsed.error().code, Errc::corrupt);
  return parsed.error().what;
}

VmcoreinfoText parsed(const std::string& text) {
  auto result = parse_vmcoreinfo(text);
  EXPECT_TRUE(result) << result.error().what;
  return result.value_or(VmcoreinfoText{});
}

TEST(VmcoreinfoText, TakesReleaseAndPageSizeAlone) {
  const auto text = parsed(kLeast);
  EXPECT_EQ(text.release, "6.1.0-56-cloud-amd64");
  EXPECT_EQ(text.build_id, "");
  EXPECT_EQ(text.kernel_offset, std::nullopt);
}

TEST(VmcoreinfoText, TakesEveryKeyItKnows) {
  const auto text = parsed(kLeast +
                           "BUILD-ID=7f76f39f\nKERNELOFFSET=1c00000\nNUMBER(phys_base)=-2097152\n"
                           "OFFSET(uts_namespace.name)=8\nSYMBOL(_stext)=ffffffff82c00000\n");
  EXPECT_EQ(text.build_id, "7f76f39f");
  EXPECT_EQ(text.kernel_offset, 0x1c00000U);
  EXPECT_EQ(text.phys_base, -2097152);
  EXPECT_EQ(text.uts_name_offset, 8U);
  EXPECT_EQ(text.symbol("_stext"), GuestVirtAddr(0xffffffff82c00000));
}

TEST(VmcoreinfoText, IgnoresUnknownKeysAndLinesWithoutOne) {
  EXPECT_EQ(parsed("CRASHTIME=17\nhello\n\n" + kLeast + "LENGTH(mem_section)=2048\n"),
            parsed(kLeast));
}

TEST(VmcoreinfoText, RefusesTextWithoutRelease) {
  EXPECT_NE(refusal("PAGESIZE=4096\n"), "");
}

TEST(VmcoreinfoText, RefusesTextWithoutPageSize) {
  EXPECT_NE(refusal("OSRELEASE=6.1.0\n"), "");
}

TEST(VmcoreinfoText, RefusesAnotherPageSize) {
  EXPECT_NE(refusal("OSRELEASE=6.1.0\nPAGESIZE=65536\n"), "");
}

TEST(VmcoreinfoText, IgnoresALastLineCutBeforeItsNewline) {
  EXPECT_EQ(parsed(kLeast + "KERNELOFFSET=1c0").kernel_offset, std::nullopt);
}

TEST(VmcoreinfoText, RefusesAReleaseCutBeforeItsNewline) {
  EXPECT_NE(refusal("PAGESIZE=4096\nOSRELEASE=6.1.0"), "");
}

TEST(VmcoreinfoText, RefusesTextThatIsNotAscii) {
  EXPECT_NE(refusal(kLeast + "NOTE=gr\xc3\xbc\xc3\x9f\n"), "");
}

TEST(VmcoreinfoText, RefusesTextThatIsNotUtf8) {
  EXPECT_NE(refusal(kLeast + "NOTE=\xff\xfe\n"), "");
}

TEST(VmcoreinfoText, RefusesControlCharacters) {
  EXPECT_NE(refusal("OSRELEASE=6.1.0\x1b[31m\nPAGESIZE=4096\n"), "");
}

TEST(VmcoreinfoText, RefusesNulBytes) {
  EXPECT_NE(refusal(kLeast + std::string(4, '\0')), "");
}

TEST(VmcoreinfoText, TakesTheLongestRelease) {
  EXPECT_EQ(parsed("PAGESIZE=4096\nOSRELEASE=" + std::string(64, 'x') + "\n").release.size(), 64U);
}

TEST(VmcoreinfoText, RefusesALongerRelease) {
  EXPECT_NE(refusal("PAGESIZE=4096\nOSRELEASE=" + std::string(65, 'x') + "\n"), "");
}

TEST(VmcoreinfoText, RefusesAnEmptyRelease) {
  EXPECT_NE(refusal("PAGESIZE=4096\nOSRELEASE=\n"), "");
}

TEST(VmcoreinfoText, RefusesAReleaseWithASpace) {
  EXPECT_NE(refusal("PAGESIZE=4096\nOSRELEASE=6.1.0 root\n"), "");
}

TEST(VmcoreinfoText, TakesAKeyTwiceWithTheSameValue) {
  EXPECT_EQ(parsed(kLeast + "KERNELOFFSET=1c00000\nKERNELOFFSET=1c00000\n").kernel_offset,
            0x1c00000U);
}

TEST(VmcoreinfoText, RefusesAKeyWithTwoValues) {
  EXPECT_NE(refusal(kLeast + "OSRELEASE=6.12.0\n"), "");
  EXPECT_NE(refusal(kLeast + "KERNELOFFSET=0\nKERNELOFFSET=200000\n"), "");
}

TEST(VmcoreinfoText, RefusesASymbolWithTwoAddresses) {
  EXPECT_NE(refusal(kLeast + "SYMBOL(_stext)=1000\nSYMBOL(_stext)=2000\n"), "");
}

TEST(VmcoreinfoText, RefusesMalformedNumbers) {
  EXPECT_NE(refusal(kLeast + "KERNELOFFSET=0x1000\n"), "");
  EXPECT_NE(refusal(kLeast + "KERNELOFFSET=\n"), "");
  EXPECT_NE(refusal(kLeast + "KERNELOFFSET=-1\n"), "");
  EXPECT_NE(refusal(kLeast + "NUMBER(phys_base)=12z\n"), "");
}

TEST(VmcoreinfoText, RefusesNumbersPast64Bits) {
  EXPECT_NE(refusal(kLeast + "KERNELOFFSET=10000000000000000\n"), "");
  EXPECT_NE(refusal(kLeast + "NUMBER(phys_base)=9223372036854775808\n"), "");
}

TEST(VmcoreinfoText, RefusesMalformedSymbols) {
  EXPECT_NE(refusal(kLeast + "SYMBOL(_stext=1000\n"), "");
  EXPECT_NE(refusal(kLeast + "SYMBOL()=1000\n"), "");
  EXPECT_NE(refusal(kLeast + "SYMBOL(a b)=1000\n"), "");
  EXPECT_NE(refusal(kLeast + "SYMBOL(_stext)=\n"), "");
}

TEST(VmcoreinfoText, RefusesAMalformedBuildId) {
  EXPECT_NE(refusal(kLeast + "BUILD-ID=7F76\n"), "");
  EXPECT_NE(refusal(kLeast + "BUILD-ID=7f7\n"), "");
}

TEST(VmcoreinfoText, RefusesTextPastTheCap) {
  EXPECT_NE(refusal(kLeast + std::string(kMaxVmcoreinfoText, '\n')), "");
}

TEST(VmcoreinfoText, PlacesTheImageByPhysBase) {
  const auto text = parsed(kLeast + "NUMBER(phys_base)=-2097152\n");
  EXPECT_EQ(text.kernel_phys(GuestVirtAddr(0xffffffff81000000)), GuestPhysAddr(0xe00000));
}

TEST(VmcoreinfoText, PlacesNothingOutsideOfTheImage) {
  const auto text = parsed(kLeast + "NUMBER(phys_base)=0\n");
  EXPECT_EQ(text.kernel_phys(GuestVirtAddr(0xffffffff7fffffff)), std::nullopt);
  EXPECT_EQ(text.kernel_phys(GuestVirtAddr(0xffffffffc0000000)), std::nullopt);
}

TEST(VmcoreinfoText, PlacesNothingBelowZero) {
  const auto lowest = parsed(kLeast + "NUMBER(phys_base)=-9223372036854775808\n");
  EXPECT_EQ(lowest.kernel_phys(GuestVirtAddr(0xffffffff81000000)), std::nullopt);
}

}  // namespace
}  // namespace vpatch::introspect
