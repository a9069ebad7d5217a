// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/file_memory.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "fake_guest.h"
#include "introspect/boot/vmcoreinfo.h"
#include "introspect/memory/page_scan.h"
#include "introspect/memory/unique_mapping.h"

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

/// A memfd of `size` bytes, all hole.
UniqueFd hole_of(std::uint64_t size) {
  UniqueFd fd(::memfd_create("guest-ram", MFD_CLOEXEC));
  EXPECT_TRUE(fd);
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

void put(const UniqueFd& fd, std::uint64_t offset, std::string_view bytes) {
  ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
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

Errc refusal(UniqueFd fd, std::vector<FileRegion> regions) {
  const auto memory = FileMemory::create(std::move(fd), std::move(regions));
  EXPECT_FALSE(memory);
  return memory ? Errc{} : memory.error().code;
}

TEST(FileMemory, ReadsEachRegionAtItsFileOffset) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, 0x1ff8, "below");
  put(fd, 2 * kMiB + 0x10, "above");
  const auto memory = FileMemory::create(
      std::move(fd), {{GuestPhysAddr(4 * kGiB), kMiB, 2 * kMiB}, {GuestPhysAddr(0), 2 * kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, 0x1ff8, 5), "below");
  EXPECT_EQ(text_at(*memory, 4 * kGiB + 0x10, 5), "above");
}

TEST(FileMemory, ReadsAcrossAdjoiningRegionsThatLieApartInTheFile) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, 3 * kMiB - 2, "ab");
  put(fd, 0, "cd");
  const auto memory = FileMemory::create(
      std::move(fd), {{GuestPhysAddr(0), kMiB, 2 * kMiB}, {GuestPhysAddr(kMiB), kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, kMiB - 2, 4), "abcd");
}

TEST(FileMemory, RefusesAReadThatRunsIntoTheGapBelow4GiB) {
  const auto memory = FileMemory::create(
      hole_of(4 * kMiB),
      {{GuestPhysAddr(0), 2 * kMiB, 0}, {GuestPhysAddr(4 * kGiB), kMiB, 2 * kMiB}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, 2 * kMiB - 2, 4), "out-of-range");
  EXPECT_EQ(text_at(*memory, 4 * kGiB - 2, 4), "out-of-range");
}

TEST(FileMemory, RefusesAReadThatWouldWrapPast64Bits) {
  const auto memory = FileMemory::create(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, kMax - 1, 16), "out-of-range");
}

TEST(FileMemory, ReadingNothingSucceedsAnywhere) {
  const auto memory = FileMemory::create(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_TRUE(memory->read(GuestPhysAddr(kMax), {}));
}

TEST(FileMemory, ReportsAFileThatShrankAsIo) {
  UniqueFd fd = hole_of(kMiB);
  const int raw = fd.get();
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  ASSERT_EQ(::ftruncate(raw, 4096), 0);
  EXPECT_EQ(text_at(*memory, 0x1000, 16), "io");
}

TEST(FileMemory, ReadsAndWalksARegionThatIsNotPageAlignedInTheFile) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, 0x7c8 + 0x5ffe, "abcd");
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(kGiB), kMiB, 0x7c8}});
  ASSERT_TRUE(memory) << memory.error().what;
  EXPECT_EQ(text_at(*memory, kGiB + 0x5ffe, 4), "abcd");
  // The file's page 6 holds the text; the guest's pages 5 and 6 lie in it.
  const auto data = memory->next_populated(GuestPhysAddr(kGiB));
  ASSERT_TRUE(data && *data);
  EXPECT_EQ(**data, PhysRange::between(GuestPhysAddr(kGiB + 0x5000), GuestPhysAddr(kGiB + 0x7000)));
}

TEST(FileMemory, ReadsManyThatLieCloseTogetherApartAndBackwards) {
  UniqueFd fd = hole_of(4 * kMiB);
  std::vector<std::uint64_t> addresses;
  for (std::uint64_t at = 0; at < 300; ++at) {
    addresses.push_back(at * kPageSize);
  }
  addresses.insert(addresses.end(), {3 * kMiB, 5, 3 * kMiB + 1, 3 * kMiB + 1, 0});
  std::string expected;
  for (const std::uint64_t address : addresses) {
    const auto letter = static_cast<char>('a' + address % 25);
    put(fd, address, std::string(1, letter));
    expected += letter;
  }
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), 4 * kMiB, 0}});
  ASSERT_TRUE(memory);
  std::string into(addresses.size(), '?');
  std::vector<PhysRead> reads;
  for (std::size_t at = 0; at < addresses.size(); ++at) {
    reads.push_back(
        {GuestPhysAddr(addresses[at]), std::as_writable_bytes(std::span(into).subspan(at, 1))});
  }
  memory->read_many(reads);
  EXPECT_TRUE(std::ranges::all_of(reads, &PhysRead::done));
  EXPECT_EQ(into, expected);
}

TEST(FileMemory, ReadingManyTellsWhichRunOutOfRam) {
  const auto memory = FileMemory::create(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  std::array<std::byte, 3> into{};
  std::array<PhysRead, 3> reads{PhysRead{GuestPhysAddr(kMiB - 3), std::span(into).first(1)},
                                PhysRead{GuestPhysAddr(kMiB - 1), std::span(into).first(2)},
                                PhysRead{GuestPhysAddr(kMiB - 1), std::span(into).first(1)}};
  memory->read_many(reads);
  EXPECT_TRUE(reads[0].done);
  EXPECT_FALSE(reads[1].done);
  EXPECT_TRUE(reads[2].done);
}

TEST(FileMemory, RefusesARegionPastTheFilesEnd) {
  EXPECT_EQ(refusal(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, 4096}}), Errc::out_of_range);
}

TEST(FileMemory, RefusesAFileOffsetThatWraps) {
  EXPECT_EQ(refusal(hole_of(kMiB), {{GuestPhysAddr(0), kMiB, kMax - 4095}}), Errc::out_of_range);
}

TEST(FileMemory, RefusesAGuestAddressThatWraps) {
  EXPECT_EQ(refusal(hole_of(kMiB), {{GuestPhysAddr(kMax - 4095), kMiB, 0}}), Errc::out_of_range);
}

TEST(FileMemory, RefusesRegionsThatOverlapInTheGuest) {
  EXPECT_EQ(refusal(hole_of(4 * kMiB),
                    {{GuestPhysAddr(0), 2 * kMiB, 0}, {GuestPhysAddr(kMiB), kMiB, 2 * kMiB}}),
            Errc::out_of_range);
}

TEST(FileMemory, RefusesRegionsThatOverlapInTheFile) {
  EXPECT_EQ(refusal(hole_of(4 * kMiB),
                    {{GuestPhysAddr(0), 2 * kMiB, 0}, {GuestPhysAddr(4 * kGiB), 2 * kMiB, kMiB}}),
            Errc::out_of_range);
}

TEST(FileMemory, RefusesAnUnalignedRegion) {
  EXPECT_EQ(refusal(hole_of(kMiB), {{GuestPhysAddr(0x800), 4096, 0}}), Errc::out_of_range);
}

TEST(FileMemory, RefusesAnEmptyRegion) {
  EXPECT_EQ(refusal(hole_of(kMiB), {{GuestPhysAddr(0), 0, 0}}), Errc::out_of_range);
}

TEST(FileMemory, RefusesToBeWithoutRegions) {
  EXPECT_EQ(refusal(hole_of(kMiB), {}), Errc::no_memory);
}

TEST(FileMemory, RefusesWhatIsNoRegularFile) {
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(refusal(std::move(null), {{GuestPhysAddr(0), kMiB, 0}}), Errc::no_memory);
}

TEST(FileMemory, RefusesADescriptorThatIsNotOpen) {
  EXPECT_EQ(refusal(UniqueFd(), {{GuestPhysAddr(0), kMiB, 0}}), Errc::io);
}

TEST(FileMemory, RefusesADescriptorThatCannotBeRead) {
  const UniqueFd fd = hole_of(kMiB);
  UniqueFd write_only(
      ::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(write_only);
  EXPECT_EQ(refusal(std::move(write_only), {{GuestPhysAddr(0), kMiB, 0}}), Errc::permission);
}

TEST(FileMemory, ClosesItsDescriptor) {
  UniqueFd fd = hole_of(kMiB);
  const int raw = fd.get();
  {
    const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

/// All that next_populated() tells of, as {start, size}.
std::vector<std::pair<std::uint64_t, std::uint64_t>> walk(const GuestMemory& memory) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  GuestPhysAddr from(0);
  while (ranges.size() < 100) {
    const auto next = memory.next_populated(from);
    EXPECT_TRUE(next);
    const auto data = next.value_or(std::nullopt);
    if (!data) {
      break;
    }
    ranges.emplace_back(data->start().value(), data->size());
    from = data->end();
  }
  return ranges;
}

TEST(FileMemory, TellsDataFromHoles) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, 0x3456, "x");
  put(fd, 0x4000, "y");
  put(fd, 4 * kMiB - 1, "z");
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), 4 * kMiB, 0}});
  ASSERT_TRUE(memory);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{0x3000, 0x2000},
                                                                      {4 * kMiB - 4096, 4096}};
  EXPECT_EQ(walk(*memory), expected);
}

TEST(FileMemory, CutsDataAtTheEndOfItsRegion) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, kMiB - 4096, std::string(8192, 'x'));
  const auto memory = FileMemory::create(
      std::move(fd), {{GuestPhysAddr(0), kMiB, 0}, {GuestPhysAddr(4 * kGiB), kMiB, kMiB}});
  ASSERT_TRUE(memory);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{kMiB - 4096, 4096},
                                                                      {4 * kGiB, 4096}};
  EXPECT_EQ(walk(*memory), expected);
}

TEST(FileMemory, TellsOfNothingInAnUntouchedGuest) {
  const auto memory = FileMemory::create(hole_of(kGiB), {{GuestPhysAddr(0), kGiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_TRUE(walk(*memory).empty());
}

TEST(FileMemory, AReadOfAHoleIsZeroAndFillsNothing) {
  UniqueFd fd = hole_of(kMiB);
  const int raw = fd.get();
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(text_at(*memory, 0x5000, 8), std::string(8, '\0'));
  EXPECT_EQ(blocks(raw), 0);
}

TEST(FileMemory, AScanForTheNoteFillsNoHole) {
  UniqueFd fd = hole_of(256 * kMiB);
  const int raw = fd.get();
  put(fd, 77 * kMiB, note_of("OSRELEASE=6.1.0-56-cloud-amd64\nPAGESIZE=4096\n"));
  put(fd, 200 * kMiB, "some other page");
  const auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), 256 * kMiB, 0}});
  ASSERT_TRUE(memory);
  const blkcnt_t before = blocks(raw);
  const auto info = find_vmcoreinfo(*memory);
  ASSERT_TRUE(info) << info.error().what;
  EXPECT_EQ(info->note, GuestPhysAddr(77 * kMiB));
  EXPECT_EQ(blocks(raw), before);
}

std::string write_text(GuestMemory& memory, std::uint64_t address, std::string_view text) {
  const auto done = memory.write(GuestPhysAddr(address), std::as_bytes(std::span(text)));
  return done ? "done" : std::string(to_string(done.error().code));
}

TEST(FileMemory, WritesAcrossAdjoiningRegionsThatLieApartInTheFile) {
  UniqueFd fd = hole_of(4 * kMiB);
  put(fd, 3 * kMiB - 4, "....");
  put(fd, 0, "....");
  auto memory = FileMemory::create(
      std::move(fd), {{GuestPhysAddr(0), kMiB, 2 * kMiB}, {GuestPhysAddr(kMiB), kMiB, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, kMiB - 2, "abcd"), "done");
  EXPECT_EQ(text_at(*memory, kMiB - 4, 8), "..abcd..");
}

TEST(FileMemory, WritesAFileOfADisk) {
  const auto path = std::filesystem::current_path() / "vpatch-file-memory-test";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  put(fd, 0, std::string(0x2000, '.'));
  auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), 0x2000, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x1008, "12345678"), "done");
  EXPECT_EQ(text_at(*memory, 0x1007, 10), ".12345678.");
}

TEST(FileMemory, WritesNothingIntoAHoleOrPastTheEndOfAFileThatShrank) {
  UniqueFd fd = hole_of(kMiB);
  const int raw = fd.get();
  put(fd, 0x3000, "data");
  auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}});
  ASSERT_TRUE(memory);
  const auto before = blocks(raw);
  EXPECT_EQ(write_text(*memory, 0x5000, "x"), "out-of-range");
  EXPECT_EQ(blocks(raw), before);
  EXPECT_EQ(write_text(*memory, 0x3000, "x"), "done");
  ASSERT_EQ(::ftruncate(raw, 0x3000), 0);
  EXPECT_EQ(write_text(*memory, 0x3000, "y"), "out-of-range");
}

TEST(FileMemory, NeverWritesACore) {
  UniqueFd fd = hole_of(kMiB);
  put(fd, 0x3000, "data");
  auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), kMiB, 0}}, FileUse::core);
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x3000, "x"), "permission");
  EXPECT_EQ(text_at(*memory, 0x3000, 4), "data");
}

TEST(FileMemory, WritesHugePagesThatTheGuestUsesAndMakesNone) {
  UniqueFd fd(::memfd_create("guest-ram", MFD_CLOEXEC | MFD_HUGETLB));
  struct statfs system{};
  if (fd) {
    ASSERT_EQ(::fstatfs(fd.get(), &system), 0);
  }
  const auto huge = static_cast<std::uint64_t>(system.f_bsize);
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(2 * huge)) != 0 ||
      ::fallocate(fd.get(), 0, static_cast<off_t>(huge), static_cast<off_t>(huge)) != 0) {
    GTEST_SKIP() << "no huge page to be had here; see /proc/sys/vm/nr_hugepages";
  }
  const int raw = fd.get();
  const auto before = blocks(raw);
  auto memory = FileMemory::create(std::move(fd), {{GuestPhysAddr(0), 2 * huge, 0}});
  ASSERT_TRUE(memory);
  EXPECT_EQ(write_text(*memory, 0x3000, "x"), "out-of-range");
  // It exists, but does not show it.
  EXPECT_EQ(write_text(*memory, huge + 0x3000, "x"), "out-of-range");
  {
    const UniqueMapping bytes(
        ::mmap(nullptr, huge, PROT_READ | PROT_WRITE, MAP_SHARED, raw, static_cast<off_t>(huge)),
        huge);
    ASSERT_TRUE(bytes);
    std::memcpy(bytes.start() + 0x3000, "data", 4);
  }
  EXPECT_EQ(write_text(*memory, huge + 0x3008, "12345678"), "done");
  EXPECT_EQ(text_at(*memory, huge + 0x3000, 16), std::string("data\0\0\0\0"
                                                             "12345678",
                                                             16));
  EXPECT_EQ(blocks(raw), before);
}

}  // namespace
}  // namespace vpatch::introspect
