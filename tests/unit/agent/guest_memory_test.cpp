// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/guest_memory.h"

#include <cstdint>
#include <random>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Piece =
    std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;  // start, size, offset in the file

std::vector<Piece> pieces(std::string_view mtree) {
  std::vector<Piece> result;
  const auto ram = guest_ram(parse_ram_layout(mtree), {});
  for (const introspect::FileRegion& region :
       ram.empty() ? std::vector<introspect::FileRegion>() : ram.front().pieces) {
    result.emplace_back(region.start.value(), region.size, region.file_offset);
  }
  return result;
}

// QEMU 7.2 -M q35 -m 4G with a memory-backend-memfd, as human-monitor-command gives it.
constexpr std::string_view kQ35 =
    "FlatView #0\r\n"
    " AS \"cpu-smm-0\", root: memory\r\n"
    " Root memory region: memory\r\n"
    "  0000000000000000-00000000000bffff (prio 0, ram): mem\r\n"
    "  0000000000100000-000000007fffffff (prio 0, ram): mem @0000000000100000\r\n"
    "  0000000100000000-000000017fffffff (prio 0, ram): mem @0000000080000000\r\n"
    "\r\n"
    "FlatView #1\r\n"
    " AS \"mch\", root: bus master container\r\n"
    " Root memory region: (none)\r\n"
    "  No rendered FlatView\r\n"
    "\r\n"
    "FlatView #2\r\n"
    " AS \"memory\", root: system\r\n"
    " AS \"cpu-memory-0\", root: system\r\n"
    " Root memory region: system\r\n"
    "  0000000000000000-00000000000bffff (prio 0, ram): mem\r\n"
    "  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom\r\n"
    "  00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000\r\n"
    "  0000000000100000-000000007fffffff (prio 0, ram): mem @0000000000100000\r\n"
    "  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic\r\n"
    "  00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi\r\n"
    "  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\r\n"
    "  0000000100000000-000000017fffffff (prio 0, ram): mem @0000000080000000\r\n"
    "\r\n"
    "FlatView #3\r\n"
    " AS \"I/O\", root: io\r\n"
    " Root memory region: io\r\n"
    "  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r\n";

// The same of -M pc, with lines as a terminal shows them and with KVM.
constexpr std::string_view kPc =
    "FlatView #0\n"
    " AS \"i440FX\", root: bus master container\n"
    " Root memory region: (none)\n"
    "  No rendered FlatView\n"
    "\n"
    "FlatView #1\n"
    " AS \"memory\", root: system\n"
    " AS \"cpu-memory-0\", root: system\n"
    " Root memory region: system\n"
    "  0000000000000000-00000000000bffff (prio 0, ram): mem KVM\n"
    "  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom KVM\n"
    "  0000000000100000-00000000bfffffff (prio 0, ram): mem @0000000000100000 KVM\n"
    "  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram KVM\n"
    "  0000000100000000-000000013fffffff (prio 0, ram): mem @00000000c0000000 KVM\n";

TEST(RamLayout, OfAQ35MachineHasThreePieces) {
  EXPECT_THAT(pieces(kQ35), ElementsAre(Piece{0, 0xc0000, 0}, Piece{0x100000, 0x7ff00000, 0x100000},
                                        Piece{0x100000000, 0x80000000, 0x80000000}));
}

TEST(RamLayout, OfAPcMachineLeavesOtherBlocksOut) {
  EXPECT_THAT(pieces(kPc), ElementsAre(Piece{0, 0xc0000, 0}, Piece{0x100000, 0xbff00000, 0x100000},
                                       Piece{0x100000000, 0x40000000, 0xc0000000}));
}

TEST(RamLayout, IsEmptyWithoutSystemMemory) {
  EXPECT_THAT(pieces("FlatView #0\n AS \"cpu-smm-0\", root: memory\n"
                     "  0000000000000000-00000000000bffff (prio 0, ram): mem\n"),
              IsEmpty());
}

TEST(RamLayout, IsEmptyForAnEmptyText) {
  EXPECT_THAT(pieces(""), IsEmpty());
}

TEST(RamLayout, EndsWithTheFlatViewOfSystemMemory) {
  EXPECT_THAT(pieces("FlatView #0\n AS \"memory\", root: system\n"
                     "  0000000000000000-0000000000000fff (prio 0, ram): mem\n"
                     "FlatView #1\n AS \"other\", root: other\n"
                     "  0000000000002000-0000000000002fff (prio 0, ram): mem\n"),
              ElementsAre(Piece{0, 0x1000, 0}));
}

/// One line as the only RAM of the machine.
std::vector<Piece> pieces_of_line(const std::string& line) {
  return pieces("FlatView #0\n AS \"memory\"\n" + line + "\n");
}

TEST(RamLayout, DropsMalformedLines) {
  for (const char* line :
       {"  zz-0fff (prio 0, ram): mem", "  0000-zz (prio 0, ram): mem",
        "  2000-1000 (prio 0, ram): mem", "  -0fff (prio 0, ram): mem", "  0000 (prio 0, ram): mem",
        "0000-0fff", "- (prio 0, ram): ", "  0000-0fff (prio 0, ram): mem @zz",
        "  0000-0fff (prio 0, ram): mem @", "", "   "}) {
    EXPECT_THAT(pieces_of_line(line), IsEmpty()) << line;
  }
}

TEST(RamLayout, DropsARangeUpToTheLastByteOf64Bits) {
  EXPECT_THAT(pieces_of_line("  0000000000000000-ffffffffffffffff (prio 0, ram): mem"), IsEmpty());
}

TEST(RamLayout, DropsAnAddressOver64Bits) {
  EXPECT_THAT(pieces_of_line("  0000-1ffffffffffffffff (prio 0, ram): mem"), IsEmpty());
}

TEST(RamLayout, DropsAPieceThatEndsPast64BitsOfTheFile) {
  EXPECT_THAT(pieces_of_line("  0000-0fff (prio 0, ram): mem @fffffffffffff800"), IsEmpty());
}

TEST(RamLayout, TakesNoMoreThanItsCapOfPieces) {
  std::string text = "FlatView #0\n AS \"memory\"\n";
  for (int i = 0; i < 5000; ++i) {
    text += "  0000-0fff (prio 0, ram): mem\n";
  }
  EXPECT_THAT(pieces(text), SizeIs(1024));
}

TEST(RamLayout, SurvivesDamagedText) {
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    std::minstd_rand random(seed);
    std::string text(kQ35);
    for (int i = 0; i < 30; ++i) {
      text[random() % text.size()] = static_cast<char>(random() >> 8U);
    }
    EXPECT_LE(pieces(text).size(), 6U);
  }
}

}  // namespace
}  // namespace vpatch
