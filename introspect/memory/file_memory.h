// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "introspect/memory/file_writer.h"
#include "introspect/memory/guest_memory.h"
#include "introspect/memory/region_map.h"
#include "introspect/memory/unique_fd.h"

namespace vpatch::introspect {

/// Where one piece of guest RAM lies in the backing file, in bytes. `start` and `size` are
/// multiples of kPageSize; the offset need not be, since cores put their headers in front.
struct FileRegion {
  GuestPhysAddr start;
  std::uint64_t size = 0;
  std::uint64_t file_offset = 0;
};

/// What a file of guest RAM is to the guest.
enum class FileUse : std::uint8_t {
  live,  ///< its RAM: what is written there, it sees
  core,  ///< a picture of it, which is never written
};

/// Guest RAM in a file the VMM shares: a memfd, or a file on tmpfs, hugetlbfs or a disk. Or a core.
///
/// Reads with pread() and finds data with SEEK_DATA and SEEK_HOLE. The file is not mapped for that:
/// a read through a shared mapping fills holes, and a file that shrinks would kill us with SIGBUS.
/// Only pages that are written are, see FileWriter. Neither
/// call uses or needs the file position, though SEEK_DATA moves it: a descriptor that shares its
/// position with the VMM (SCM_RIGHTS, pidfd_getfd) must not be one the VMM reads or writes by
/// position. Opening /proc/PID/fd/N gives a position of its own.
///
/// Any number of threads, while none writes.
class FileMemory final : public GuestMemory {
 public:
  /// Takes a readable descriptor of a regular file. The regions may come in any order.
  ///
  /// Errc::no_memory without regions or when it is no regular file, Errc::permission when it is not
  /// open for reading, Errc::out_of_range for a region that is empty, unaligned, runs past 64 bits
  /// or past the file's end, or overlaps another one in the guest or in the file.
  static Result<FileMemory> create(UniqueFd fd, const std::vector<FileRegion>& regions,
                                   FileUse use = FileUse::live);

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override;
  void read_many(std::span<PhysRead> reads) const override;
  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override;
  std::span<const PhysRange> regions() const override { return map_.ranges(); }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override;

 private:
  /// A piece of the file.
  struct Run {
    std::uint64_t place = 0;
    std::size_t size = 0;
  };

  FileMemory(UniqueFd fd, RegionMap map, FileUse use);
  std::size_t run_of(std::span<const PhysRead> reads, Run& run) const;

  UniqueFd fd_;
  RegionMap map_;  // places are offsets in the file
  FileUse use_;
  FileWriter writer_;
};

}  // namespace vpatch::introspect
