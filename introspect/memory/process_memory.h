// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <sys/types.h>

#include "introspect/memory/guest_memory.h"
#include "introspect/memory/pagemap.h"
#include "introspect/memory/region_map.h"
#include "introspect/memory/unique_fd.h"

namespace vpatch::introspect {

/// Where a VMM has one piece of guest RAM in its own address space. All three are multiples of
/// kPageSize, in bytes.
struct ProcessRegion {
  GuestPhysAddr start;
  std::uint64_t size = 0;
  HostAddr host;
};

/// Guest RAM inside of a VMM's process: for RAM that is not in a file. Single reads go through
/// /proc/PID/mem, many at once through process_vm_readv(). It stays with the process it was created
/// for: should the process end and its id go to another one, reads fail instead of returning that
/// one's memory.
///
/// process_vm_readv() pins what it reads, and since Linux 5.19 a pin gives the VMM its own copy of
/// a page that it shares (merged by KSM, or with a process it has forked). While KSM has merged
/// pages of the VMM, as told at create() and forget(), all reads go through /proc/PID/mem, which
/// does not.
///
/// What is populated is what the VMM's page tables hold, present or swapped. For RAM that the VMM
/// maps from a file, use FileMemory: there a page may be in the file and not in the page tables.
///
/// Writing opens /proc/PID/mem anew, for reading and writing. A write is a system call and may be
/// seen in part, also of an aligned word. It gives the VMM its own copy of a page that it shares.
///
/// One thread at a time.
class ProcessMemory final : public GuestMemory {
 public:
  /// Errc::permission when the host does not let us (with what helps), Errc::io when there is no
  /// such process, Errc::no_memory and Errc::out_of_range for the regions as FileMemory::create().
  /// Touches no RAM: whether it lies at these addresses shows in the first read.
  static Result<ProcessMemory> create(pid_t pid, const std::vector<ProcessRegion>& regions);

  /// Errc::io also when the process has ended, or has nothing mapped there.
  Result<void> read(GuestPhysAddr address, std::span<std::byte> into) const override;
  void read_many(std::span<PhysRead> reads) const override;
  Result<void> write(GuestPhysAddr address, std::span<const std::byte> bytes) override;
  std::span<const PhysRange> regions() const override { return map_.ranges(); }
  Result<std::optional<PhysRange>> next_populated(GuestPhysAddr from) const override;
  void forget() override;

 private:
  ProcessMemory(pid_t pid, UniqueFd pidfd, UniqueFd mem, Pagemap pagemap, RegionMap map);

  /// Sets `failed` (an errno) for what could not be read.
  struct Transfer {
    HostAddr from;
    std::span<std::byte> into;
    std::size_t owner = 0;  ///< index of the read it is a part of
    int failed = 0;
  };
  bool split(const PhysRead& read, std::size_t owner, std::vector<Transfer>& into) const;
  void transfer(Transfer& one) const;
  Result<void> open_writable();
  void transfer_together(std::span<Transfer> all) const;

  pid_t pid_;
  UniqueFd pidfd_;
  UniqueFd mem_;       // /proc/PID/mem, which keeps to the process it was opened for
  UniqueFd writable_;  // the same for writing, from the first write on
  Pagemap pagemap_;
  RegionMap map_;        // places are addresses in the process
  bool merged_ = false;  // KSM has merged pages of it
};

}  // namespace vpatch::introspect
