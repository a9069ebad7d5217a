// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/mapped_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fake_guest.h"

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A memfd of `size` bytes, all hole, with these seals.
UniqueFd hole_of(std::uint64_t size, int seals = F_SEAL_SHRINK) {
  UniqueFd fd(::memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

void put(int fd, std::uint64_t offset, std::string_view bytes) {
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(bytes.size()));
}

blkcnt_t blocks(int fd) {
  struct stat status{};
  EXPECT_EQ(::fstat(fd, &status), 0);
  return status.st_blocks;
}

std::string text_at(const GuestMemory& memory, std::uint64_t address, std::size_t size) {
  std::string text(size, '?');
  const auto done = memory.read(GuestPhysAddr(address), std::as_writable_bytes(std::span(text)));
  return done ? text : std::string(to_string(done.error().code));
}

/// 16 MiB of RAM at 0 that is all of a sealed memfd, and the memfd to change it through.
struct Ram {
  Ram() : fd(hole_of(16 * kMiB)) {
    auto made = MappedMemory::create(UniqueFd(::dup(fd.get())), {{GuestPhysAddr(0), 16 * kMiB, 0}});
    EXPECT_TRUE(made) << made.error().what;
    memory.emplace(*std::move(made));
  }

  UniqueFd fd;
  std::optional<MappedMemory> memory;
};

TEST(MappedMemory, ReadsEachRegionAtItsFileOffset) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd.get(), 0x1ff8, "below");
  put(fd.get(), 2 * kMiB + 0x10, "above");
  const auto memory = MappedMemory::create(
      std::move(fd), {{GuestPhysAddr(4 * kGiB), kMiB, 2 * kMiB}, {GuestPhysAddr(0), 2 * kMiB, 0}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, 0x1ff8, 5), "below");
  EXPECT_EQ(text_at(*memory, 4 * kGiB + 0x10, 5), "above");
  EXPECT_EQ(text_at(*memory, 2 * kMiB - 2, 4), "out-of-range");
}

TEST(MappedMemory, ReadsAcrossDataAndHolesWithoutFillingThem) {
  const Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  put(ram.fd.get(), 0x6000, std::string(0x2000, 'b'));
  const auto before = blocks(ram.fd.get());
  const std::string zeros(0x1000, '\0');
  EXPECT_EQ(text_at(*ram.memory, 0x2000, 0x8000), zeros + std::string(0x1000, 'a') + zeros + zeros +
                                                      std::string(0x2000, 'b') + zeros + zeros);
  EXPECT_EQ(blocks(ram.fd.get()), before);
}

TEST(MappedMemory, SeesWhatFillsAHoleLater) {
  const Ram ram;
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 4), std::string(4, '\0'));
  put(ram.fd.get(), 0x3000, "abcd");
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 4), "abcd");
}

TEST(MappedMemory, SeesWhatChangesLater) {
  const Ram ram;
  put(ram.fd.get(), 0x3000, "abcd");
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 4), "abcd");
  put(ram.fd.get(), 0x3000, "efgh");
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 4), "efgh");
}

TEST(MappedMemory, FillsNothingThatWasGivenBackOnceItHasForgotten) {
  Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 1), "a");
  ASSERT_EQ(::fallocate(ram.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0x3000, 0x1000),
            0);
  ram.memory->forget();
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 1), std::string(1, '\0'));
  EXPECT_EQ(blocks(ram.fd.get()), 0);
}

TEST(MappedMemory, WalksDataAlsoWhenPartOfItIsKnown) {
  const Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 1), "a");
  put(ram.fd.get(), 0x4000, std::string(0x1000, 'b'));
  put(ram.fd.get(), 15 * kMiB, "c");
  std::vector<std::uint64_t> pages;
  for (GuestPhysAddr from(0);;) {
    const auto data = ram.memory->next_populated(from);
    ASSERT_TRUE(data);
    if (!*data) {
      break;
    }
    for (auto page = (*data)->start().value(); page < (*data)->end().value(); page += kPageSize) {
      pages.push_back(page);
    }
    from = (*data)->end();
  }
  EXPECT_EQ(pages, (std::vector<std::uint64_t>{0x3000, 0x4000, 15 * kMiB}));
}

TEST(MappedMemory, ReadsARunOfMoreThanSixtyFourPagesWhole) {
  const Ram ram;
  std::string all;
  for (int page = 0; page < 200; ++page) {
    all += std::string(kPageSize, static_cast<char>('0' + page % 75));
  }
  put(ram.fd.get(), 0x7000, all);
  EXPECT_EQ(text_at(*ram.memory, 0x7000, all.size()), all);
  EXPECT_EQ(text_at(*ram.memory, 0x7123, all.size() - 0x123), all.substr(0x123));
}

TEST(MappedMemory, RefusesAFileThatMayShrink) {
  const auto memory =
      MappedMemory::create(hole_of(kMiB, F_SEAL_GROW), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::no_memory);
  EXPECT_THAT(memory.error().what, HasSubstr("shrink"));
}

TEST(MappedMemory, RefusesAFileThatIsNotOnTmpfs) {
  const auto path = std::filesystem::current_path() / "vpatch-mapped-memory-test";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(kMiB)), 0);
  const auto memory = MappedMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::no_memory);
}

TEST(MappedMemory, RefusesHugePages) {
  UniqueFd fd(::memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!fd) {
    GTEST_SKIP() << "no hugetlbfs here";
  }
  ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(4 * kMiB)), 0);
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  const auto memory = MappedMemory::create(std::move(fd), {{GuestPhysAddr(0), 4 * kMiB, 0}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::no_memory);
}

TEST(MappedMemory, RefusesARegionThatIsNotPageAlignedInTheFile) {
  const auto memory = MappedMemory::create(hole_of(2 * kMiB), {{GuestPhysAddr(0), kMiB, 0x800}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::out_of_range);
}

TEST(MappedMemory, RefusesARegionPastTheFilesEnd) {
  const auto memory = MappedMemory::create(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, 0x1000}});
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::out_of_range);
}

/// How this test's process has open and mapped what is called `name`, as /proc tells: "r" or "rw"
/// for each descriptor, "r--s" or the like for each mapping.
std::vector<std::string> held(const std::string& name) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry, gone).string().find(name) != std::string::npos) {
      const int flags = ::fcntl(std::stoi(entry.path().filename()), F_GETFL);
      found.emplace_back((flags & O_ACCMODE) == O_RDONLY ? "r" : "rw");
    }
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) != std::string::npos) {
      found.push_back(line.substr(line.find(' ') + 1, 4));
    }
  }
  return found;
}

Result<void> write_text(GuestMemory& memory, std::uint64_t address, std::string_view text) {
  return memory.write(GuestPhysAddr(address), std::as_bytes(std::span(text)));
}

std::string outcome(const Result<void>& done) {
  return done ? "done" : std::string(to_string(done.error().code));
}

TEST(MappedMemory, WritesWhereTheFileHasData) {
  Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x2000, 'a'));
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3ffe, "1234")), "done");
  EXPECT_EQ(text_at(*ram.memory, 0x3ffd, 6), "a1234a");
  std::string file(6, '?');
  ASSERT_EQ(::pread(ram.fd.get(), file.data(), 6, 0x3ffd), 6);
  EXPECT_EQ(file, "a1234a");
}

TEST(MappedMemory, WritesAlignedAndUnalignedWords) {
  Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3008, "12345678")), "done");
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3014, "abcd")), "done");
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3021, "12345678")), "done");
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3032, "abcd")), "done");
  EXPECT_EQ(text_at(*ram.memory, 0x3000, 0x38),
            "aaaaaaaa12345678aaaaabcdaaaaaaaaa12345678aaaaaaaaaabcdaa");
}

TEST(MappedMemory, RefusesToWriteIntoAHoleAndFillsNone) {
  Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  const auto before = blocks(ram.fd.get());
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x5000, "x")), "out-of-range");
  // Not in part either.
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3ffe, "1234")), "out-of-range");
  EXPECT_EQ(text_at(*ram.memory, 0x3ffe, 2), "aa");
  EXPECT_EQ(blocks(ram.fd.get()), before);
}

TEST(MappedMemory, RefusesToWriteIntoAPageThatWasGivenBack) {
  Ram ram;
  put(ram.fd.get(), 0x3000, std::string(0x1000, 'a'));
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3000, "x")), "done");
  ASSERT_EQ(::fallocate(ram.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0x3000, 0x1000),
            0);
  EXPECT_EQ(outcome(write_text(*ram.memory, 0x3000, "x")), "out-of-range");
  EXPECT_EQ(blocks(ram.fd.get()), 0);
}

TEST(MappedMemory, RefusesToWriteOutsideOfRam) {
  Ram ram;
  put(ram.fd.get(), 16 * kMiB - 0x1000, std::string(0x1000, 'a'));
  EXPECT_EQ(outcome(write_text(*ram.memory, 16 * kMiB - 1, "xy")), "out-of-range");
  EXPECT_EQ(text_at(*ram.memory, 16 * kMiB - 1, 1), "a");
  EXPECT_EQ(outcome(write_text(*ram.memory, ~std::uint64_t{0}, "xy")), "out-of-range");
  EXPECT_EQ(outcome(write_text(*ram.memory, ~std::uint64_t{0}, "")), "done");
}

TEST(MappedMemory, HoldsNothingWritableBeforeItsFirstWriteAndFewPagesAfterIt) {
  UniqueFd fd(::memfd_create("guest-ram-held", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(kMiB)), 0);
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  put(fd.get(), 0, std::string(kMiB, 'a'));
  UniqueFd readable(
      ::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
  fd.reset();
  auto memory = MappedMemory::create(std::move(readable), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, 0x3000, 1), "a");
  EXPECT_EQ(outcome(write_text(*memory, 2 * kMiB, "x")), "out-of-range");
  EXPECT_THAT(held("guest-ram-held"), ElementsAre("r", "r--s"));
  for (std::uint64_t page = 0; page < 40; ++page) {
    ASSERT_EQ(outcome(write_text(*memory, page * kPageSize, "x")), "done");
    ASSERT_EQ(text_at(*memory, page * kPageSize, 2), "xa");
  }
  auto now = held("guest-ram-held");
  EXPECT_EQ(std::ranges::count(now, "rw"), 1);
  // Mappings that adjoin are one line; every page is one of the last few.
  EXPECT_LE(std::ranges::count(now, "rw-s"), 16);
  EXPECT_GE(std::ranges::count(now, "rw-s"), 1);
}

TEST(MappedMemory, SaysThatTheHostRefusesTheWrite) {
  UniqueFd fd = hole_of(kMiB);
  put(fd.get(), 0, std::string(0x1000, 'a'));
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  auto memory = MappedMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(outcome(write_text(*memory, 0, "x")), "permission");
  EXPECT_EQ(text_at(*memory, 0, 1), "a");
}

}  // namespace
}  // namespace vpatch::introspect
