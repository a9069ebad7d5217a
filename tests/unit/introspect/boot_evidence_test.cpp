// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/boot_evidence.h"

#include <gtest/gtest.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

FakeMemory ram() {
  return FakeMemory({{0, 512 * kMiB}});
}

Evidence weigh(const FakeMemory& memory, const std::string& text) {
  const auto parsed = parse_vmcoreinfo(text);
  const auto boot = BootEvidence::gather(memory);
  EXPECT_TRUE(parsed && boot);
  return parsed && boot ? boot->weigh(memory, *parsed) : Evidence::contradicted;
}

TEST(BootEvidence, KnowsTheKernelTheRealModeTableLeadsTo) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  kernel.boot(memory);
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::booted);
}

TEST(BootEvidence, KnowsItWhenOnlyFlagsOfTheEntryDiffer) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  memory.write_word(kRealModeTable + kLastEntry, kernel.top_entry() & ~std::uint64_t{0x60});
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::booted);
}

TEST(BootEvidence, FindsAnEarlierBootsImageOnlyAnImage) {
  auto memory = ram();
  const FakeKernel stale{.image = 0x10000000};
  stale.put_image(memory);
  FakeKernel{}.boot(memory);
  EXPECT_EQ(weigh(memory, stale.text()), Evidence::image);
}

TEST(BootEvidence, ContradictsATextWithoutItsKernelsName) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.boot(memory);
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::contradicted);
}

TEST(BootEvidence, ContradictsATextWhoseKernelHasALongerName) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  EXPECT_EQ(weigh(memory, FakeKernel{.release = "6.1.0-5"}.text()), Evidence::contradicted);
}

TEST(BootEvidence, ContradictsATextThatPointsOutsideOfRam) {
  auto memory = ram();
  EXPECT_EQ(weigh(memory, FakeKernel{.image = 8 * kGiB}.text()), Evidence::contradicted);
}

TEST(BootEvidence, ContradictsATextWhoseNameCannotBeRead) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  memory.fault(kernel.uts(), Errc::io);
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::contradicted);
}

TEST(BootEvidence, LeavesATextThatSaysTooLittleUnchecked) {
  auto memory = ram();
  EXPECT_EQ(weigh(memory, "OSRELEASE=5.4.0\nPAGESIZE=4096\n"), Evidence::unchecked);
}

TEST(BootEvidence, DoesNotCompareTheRealModeTableWithItself) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  kernel.boot(memory);
  // The image is mapped from 0xffffffff81000000 + shift on; this says the table is at 0x9c000.
  const std::string forged =
      "OSRELEASE=" + kernel.release + "\nPAGESIZE=4096\nNUMBER(phys_base)=0\n" +
      "OFFSET(uts_namespace.name)=0\nSYMBOL(init_uts_ns)=ffffffff88621bc0\n" +
      "SYMBOL(init_top_pgt)=ffffffff8009c000\n";
  EXPECT_EQ(weigh(memory, forged), Evidence::image);
}

TEST(BootEvidence, FollowsNoEntryThatIsNotPresent) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  kernel.boot(memory);
  memory.write_word(kernel.top_table() + kLastEntry, kernel.top_entry() & ~std::uint64_t{1});
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::image);
}

TEST(BootEvidence, TakesAnAbsentEntryForNone) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  memory.write_word(kernel.top_table() + kLastEntry, 0);
  memory.write_word(kRealModeTable, 1);  // a page whose entry 511 is 0 as well
  EXPECT_EQ(weigh(memory, kernel.text()), Evidence::image);
}

}  // namespace
}  // namespace vpatch::introspect
