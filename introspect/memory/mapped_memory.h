// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "introspect/memory/file_memory.h"
#include "introspect/memory/file_writer.h"
#include "introspect/memory/guest_memory.h"
#include "introspect/memory/region_map.h"
#include "introspect/memory/unique_fd.h"
#include "introspect/memory/unique_mapping.h"

namespace vpatch::introspect {

/// Guest RAM in a memfd the VMM shares, mapped read-only: the fastest backend, some nanoseconds a
/// read. Only a mapping that can do the guest no harm is made: the file must be on tmpfs, whose
/// holes can be told from data, and sealed against shrinking, which would kill us with SIGBUS.
/// QEMU's memory-backend-memfd seals so, unless told `seal=off`.
///
/// A read through the mapping would fill a hole, so a page is touched only after SEEK_DATA has
/// shown that it holds data; that knowledge is kept until forget(). A page that the guest gives
/// back meanwhile (balloon, free page reporting) comes into being again, zeroed, when it is read:
/// callers forget() before they look again after a while. A page the host has lost (a memory error,
/// swap that cannot be read) ends the reader with SIGBUS, as it does the VMM.
///
/// Writing opens the file anew, for reading and writing; see FileWriter.
///
/// One thread at a time. The position of the descriptor moves, see FileMemory.
class MappedMemory final : public GuestMemory {
 public:
  /// Takes a readable descriptor. Errors as FileMemory::create(), also for a `file_offset` that is
  /// not page-aligned; Errc::no_memory when the file may not be mapped (`what` says why): callers
  /// then use FileMemory. Errc::io when mapping fails.
  static Result<MappedMemory> create(UniqueFd fd, const std::vector<FileRegion>& regions);

  /// Whether create() would map the file behind `fd`; the error it would give.
  static Result<void> mappable(int fd);

  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override;
  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override {
    return writer_.write(fd_.get(), map_, address, bytes);
  }
  std::span<const PhysRange> regions() const override { return map_.ranges(); }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override;
  void forget() override;

 private:
  /// Page numbers of one region, `first` < `past`.
  struct Pages {
    std::uint64_t first = 0, past = 0;
  };

  /// One region's bytes, and a bit for each page that is known to hold data.
  class Mapping {
   public:
    explicit Mapping(UniqueMapping bytes);

    const std::byte* at(std::uint64_t offset) const { return bytes_.start() + offset; }
    /// The first page at or after `page` and before `limit` that is not known; else `limit`.
    std::uint64_t known_until(std::uint64_t page, std::uint64_t limit) const;
    void learn(Pages pages);
    void forget();

   private:
    UniqueMapping bytes_;
    std::vector<std::uint64_t> known_;
  };

  MappedMemory(UniqueFd fd, RegionMap map);
  Result<std::optional<Pages>> learn(std::size_t region, std::uint64_t page) const;

  UniqueFd fd_;
  RegionMap map_;                          // places are offsets in the file
  mutable std::vector<Mapping> mappings_;  // one for each region
  FileWriter writer_;
};

}  // namespace vpatch::introspect
