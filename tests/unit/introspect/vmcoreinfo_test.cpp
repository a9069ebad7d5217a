// SPDX-License-Identifier: Apache-2.0
#include "introspect/boot/vmcoreinfo.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

using testing::HasSubstr;

const std::string kLeast = "OSRELEASE=6.1.0-56-cloud-amd64\nPAGESIZE=4096\n";

FakeMemory ram() {
  return FakeMemory({{0, 512 * kMiB}});
}

std::uint64_t found_at(const FakeMemory& memory) {
  const auto info = find_vmcoreinfo(memory);
  EXPECT_TRUE(info) << info.error().what;
  return info ? info->note.value() : 0;
}

Error failure(const FakeMemory& memory) {
  const auto info = find_vmcoreinfo(memory);
  EXPECT_FALSE(info);
  return info ? Error{} : info.error();
}

TEST(FindVmcoreinfo, FindsTheNoteOfABootedKernel) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put(memory);
  kernel.boot(memory);
  const auto info = find_vmcoreinfo(memory);
  ASSERT_TRUE(info) << info.error().what;
  EXPECT_EQ(info->note, GuestPhysAddr(kernel.note));
  EXPECT_EQ(info->text.release, kernel.release);
  EXPECT_EQ(info->text.kernel_offset, kernel.shift);
  EXPECT_EQ(info->evidence, Evidence::booted);
}

TEST(FindVmcoreinfo, FindsTheNoteInTheFirstPage) {
  auto memory = ram();
  memory.write(0, note_of(kLeast));
  EXPECT_EQ(found_at(memory), 0U);
}

TEST(FindVmcoreinfo, FindsANoteThatFillsTheLastPageToItsEnd) {
  auto memory = ram();
  std::string text = kLeast + "PAD=";
  text.append(kPageSize - 24 - text.size() - 1, 'x').append("\n");
  memory.write(512 * kMiB - kPageSize, note_of(text));
  EXPECT_EQ(found_at(memory), 512 * kMiB - kPageSize);
}

TEST(FindVmcoreinfo, FindsANoteWhoseTextRunsIntoTheNextPage) {
  auto memory = ram();
  std::string text = "PAD=";
  text.append(kPageSize - 24, 'x').append("\n").append(kLeast);
  memory.write(0x7000, note_of(text));
  EXPECT_EQ(found_at(memory), 0x7000U);
}

TEST(FindVmcoreinfo, FindsTheNoteAbove4GiB) {
  FakeMemory memory({{0, 2 * kGiB}, {4 * kGiB, kGiB}});
  memory.write(4 * kGiB + 0x7000, note_of(kLeast));
  EXPECT_EQ(found_at(memory), 4 * kGiB + 0x7000);
}

TEST(FindVmcoreinfo, ReadsNoHole) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put(memory);
  kernel.boot(memory);
  ASSERT_TRUE(find_vmcoreinfo(memory));
  for (const auto& [page, times] : memory.touched()) {
    EXPECT_TRUE(memory.populated(page)) << page;
  }
}

TEST(FindVmcoreinfo, SaysNotFoundInAnEmptyGuest) {
  EXPECT_EQ(failure(ram()).code, Errc::not_found);
}

TEST(FindVmcoreinfo, SaysNoMemoryWithoutRegions) {
  EXPECT_EQ(failure(FakeMemory({})).code, Errc::no_memory);
}

TEST(FindVmcoreinfo, IgnoresANoteThatIsNotPageAligned) {
  auto memory = ram();
  memory.write(0x7010, note_of(kLeast));
  EXPECT_EQ(failure(memory).code, Errc::not_found);
}

TEST(FindVmcoreinfo, IgnoresANoteWithAnotherName) {
  auto memory = ram();
  memory.write(0x7000, note_of({.text_size = 46, .name = "VMCOREINFX"}, kLeast));
  EXPECT_EQ(failure(memory).code, Errc::not_found);
}

TEST(FindVmcoreinfo, IgnoresANoteWithALongerName) {
  auto memory = ram();
  memory.write(0x7000, note_of({.text_size = 46, .name = "VMCOREINFO2"}, kLeast));
  EXPECT_EQ(failure(memory).code, Errc::not_found);
}

TEST(FindVmcoreinfo, IgnoresANoteWithAnotherNameSize) {
  auto memory = ram();
  memory.write(0x7000, note_of({.name_size = 10, .text_size = 46}, kLeast));
  EXPECT_EQ(failure(memory).code, Errc::not_found);
}

TEST(FindVmcoreinfo, IgnoresANoteOfAnotherType) {
  auto memory = ram();
  memory.write(0x7000, note_of({.text_size = 46, .type = 1}, kLeast));
  EXPECT_EQ(failure(memory).code, Errc::not_found);
}

TEST(FindVmcoreinfo, PassesOverAnOversizedTextAndGoesOn) {
  auto memory = ram();
  memory.write(0x7000, note_of({.text_size = 0xffffffff}, kLeast));
  memory.write(0x9000, note_of(kLeast));
  EXPECT_EQ(found_at(memory), 0x9000U);
}

TEST(FindVmcoreinfo, PassesOverGarbageAndGoesOn) {
  auto memory = ram();
  memory.write(0x7000, note_of("\xff\xfe\x01"));
  memory.write(0x9000, note_of(kLeast));
  EXPECT_EQ(found_at(memory), 0x9000U);
}

TEST(FindVmcoreinfo, PassesOverATextThatRunsPastTheEndOfRam) {
  auto memory = ram();
  memory.write(0x9000, note_of(kLeast));
  memory.write(512 * kMiB - kPageSize, note_of({.text_size = 4096}, kLeast));
  EXPECT_EQ(found_at(memory), 0x9000U);
}

TEST(FindVmcoreinfo, SaysWhatIsWrongWithTheFirstWhenNoneIsValid) {
  auto memory = ram();
  memory.write(0x7000, note_of("PAGESIZE=4096\n"));
  memory.write(0x9000, note_of({.text_size = 1 << 20}, kLeast));
  const Error error = failure(memory);
  EXPECT_EQ(error.code, Errc::corrupt);
  EXPECT_THAT(error.what, AllOf(HasSubstr("0x7000"), HasSubstr("OSRELEASE")));
}

TEST(FindVmcoreinfo, SaysTornWhenTheNoteChangesBetweenTwoLooks) {
  auto memory = ram();
  memory.write(2 * kMiB, note_of(kLeast));
  memory.before_read([&, reads = 0](GuestPhysAddr) mutable {
    if (++reads == 2) {
      memory.write(2 * kMiB, std::string(24, '\0'));
    }
  });
  EXPECT_EQ(failure(memory).code, Errc::torn);
}

TEST(FindVmcoreinfo, SaysTornWhenTheTextGrowsBetweenTwoLooks) {
  auto memory = ram();
  memory.write(2 * kMiB, note_of(kLeast));
  memory.before_read([&, reads = 0](GuestPhysAddr) mutable {
    if (++reads == 2) {
      memory.write(2 * kMiB, note_of(kLeast + "KERNELOFFSET=1c00000\n"));
    }
  });
  EXPECT_EQ(failure(memory).code, Errc::torn);
}

TEST(FindVmcoreinfo, FindsTheNoteBesideAnUnreadablePage) {
  auto memory = ram();
  memory.write(0x6000, std::string(0x1000, 'x'));
  memory.write(0x7000, note_of(kLeast));
  memory.fault(0x6000, Errc::io);
  EXPECT_EQ(found_at(memory), 0x7000U);
}

TEST(FindVmcoreinfo, SaysIoWhenTheNoteMayBeInAnUnreadablePage) {
  auto memory = ram();
  memory.write(0x7000, note_of(kLeast));
  memory.fault(0x7000, Errc::io);
  const Error error = failure(memory);
  EXPECT_EQ(error.code, Errc::io);
  EXPECT_THAT(error.what, HasSubstr("1 unreadable"));
}

TEST(FindVmcoreinfo, SaysPermissionWhenTheHostRefuses) {
  auto memory = ram();
  memory.write(0x7000, note_of(kLeast));
  memory.fault(0x7000, Errc::permission);
  EXPECT_EQ(failure(memory).code, Errc::permission);
}

TEST(FindVmcoreinfo, PassesOnAWalkThatFails) {
  auto memory = ram();
  memory.fault_walk(Errc::io);
  EXPECT_EQ(failure(memory).code, Errc::io);
}

TEST(FindVmcoreinfo, ChoosesTheLastBootAmongTheNotesOfEarlierOnes) {
  auto memory = ram();
  FakeKernel{.release = "6.1.0-1", .note = 0x2000000, .image = 0x8000000}.put(memory);
  const FakeKernel running{.release = "6.1.0-2", .note = 0x3000000, .image = 0xa000000};
  running.put(memory);
  FakeKernel{.release = "6.1.0-1", .note = 0x4000000, .image = 0xc000000}.put(memory);
  running.boot(memory);
  EXPECT_EQ(found_at(memory), running.note);
}

TEST(FindVmcoreinfo, RefusesToChooseBetweenTwoKernelsAndNamesBoth) {
  auto memory = ram();
  FakeKernel{.release = "6.1.0-1", .note = 0x2000000, .image = 0x8000000}.put(memory);
  FakeKernel{.release = "6.1.0-2", .note = 0x3000000, .image = 0xa000000}.put(memory);
  const Error error = failure(memory);
  EXPECT_EQ(error.code, Errc::ambiguous);
  EXPECT_THAT(error.what, AllOf(HasSubstr("6.1.0-1"), HasSubstr("6.1.0-2")));
}

TEST(FindVmcoreinfo, RefusesToChooseBetweenTwoPlacesOfOneKernel) {
  auto memory = ram();
  FakeKernel{.note = 0x2000000, .image = 0x8000000}.put(memory);
  FakeKernel{.note = 0x3000000, .image = 0xa000000}.put(memory);
  EXPECT_EQ(failure(memory).code, Errc::ambiguous);
}

TEST(FindVmcoreinfo, TakesTheLowestOfIdenticalCopies) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put(memory);
  memory.write(0x5000000, note_of(kernel.text()));
  EXPECT_EQ(found_at(memory), kernel.note);
}

TEST(FindVmcoreinfo, PrefersACheckedNoteToAForgedOneThatSaysLittle) {
  auto memory = ram();
  memory.write(0x1000000, note_of("OSRELEASE=6.6.6\nPAGESIZE=4096\n"));
  const FakeKernel kernel;
  kernel.put(memory);
  memory.write(0x5000000, note_of("OSRELEASE=6.6.7\nPAGESIZE=4096\n"));
  EXPECT_EQ(found_at(memory), kernel.note);
}

TEST(FindVmcoreinfo, PassesOverANoteThatMemoryContradicts) {
  auto memory = ram();
  const FakeKernel gone{.release = "6.1.0-1", .note = 0x1000000, .image = 0x10000000};
  memory.write(gone.note, note_of(gone.text()));
  const FakeKernel kernel;
  kernel.put(memory);
  EXPECT_EQ(found_at(memory), kernel.note);
}

TEST(FindVmcoreinfo, SurvivesEveryByteOfTheNoteBeingAnythingElse) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  kernel.boot(memory);
  const std::string note = note_of(kernel.text());
  for (std::size_t at = 0; at < note.size(); ++at) {
    for (const char value : {'\0', '\xff', '\n', '=', '9'}) {
      std::string changed = note;
      changed[at] = value;
      memory.write(kernel.note, changed);
      const auto info = find_vmcoreinfo(memory);
      EXPECT_TRUE(!info || info->text.release.size() <= 64);
    }
  }
}

TEST(FindVmcoreinfo, SurvivesEveryLengthOfTheText) {
  auto memory = ram();
  const FakeKernel kernel;
  kernel.put_image(memory);
  const std::string text = kernel.text();
  for (std::size_t size = 0; size <= text.size(); ++size) {
    memory.write(kernel.note, note_of(text.substr(0, size)));
    const auto info = find_vmcoreinfo(memory);
    EXPECT_TRUE(!info || info->text.release == kernel.release) << size;
  }
}

}  // namespace
}  // namespace vpatch::introspect
