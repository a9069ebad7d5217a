// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "introspect/memory/guest_memory.h"
#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect {

/// How many levels of page tables the guest's kernel uses (CR4.LA57).
enum class Paging : std::uint8_t { four_level = 4, five_level = 5 };

/// Where a guest-virtual address lies, and the size of the page that maps it: 4 KiB, 2 MiB or 1
/// GiB.
struct Translation {
  GuestPhysAddr phys;
  std::uint64_t page_size = 0;
  bool writable = false;    ///< at every level
  bool user = false;        ///< at every level
  bool executable = false;  ///< no level forbids it
};

/// One set of x86-64 page tables, walked as the CPU would (Intel SDM volume 3, chapter 4, for a CPU
/// with EFER.NXE set). How many physical address bits the CPU has is not known here: an entry with
/// too high an address points outside of RAM instead of having reserved bits.
///
/// Tables that have been read are kept until forget(): one look at the guest uses one picture of
/// them. Kernel stacks lie in vmalloc space, whose tables change while a guest runs, so whoever
/// looks again calls forget() first. Memory kept is bounded (4096 tables, 16 MiB); a look at more
/// starts over with an empty store.
///
/// One thread at a time.
class AddressSpace final : public VirtualMemory {
 public:
  /// `root` is what CR3 would hold; its low 12 bits are ignored. `memory` must outlive this object.
  AddressSpace(const GuestMemory& memory, GuestPhysAddr root, Paging paging);

  /// Errc::out_of_range when the address is not canonical or not mapped; Errc::corrupt when an
  /// entry has reserved bits set; errors of the memory when a table cannot be read. The answer may
  /// lie outside of RAM.
  Result<Translation> translate(GuestVirtAddr address) const;

  Result<void> read(GuestVirtAddr address, std::span<std::byte> into) const override;

  /// Reads the tables that are missing level by level, each level at once, then all pieces at once.
  void read_many(std::span<VirtRead> reads) const override;

  /// Drops all that is kept.
  void forget();

  Paging paging() const { return paging_; }

 private:
  using Table = std::array<std::uint64_t, 512>;

  /// What may be done through a page, all levels taken together.
  struct Rights {
    bool writable = true, user = true, executable = true;
  };

  /// How 2 MiB of virtual addresses are mapped: by a table of 4 KiB pages, or, without one, by (a
  /// part of) one large page that starts at `phys`.
  struct Region {
    std::uint64_t key = ~std::uint64_t{0};  ///< virtual address / 2 MiB
    const Table* table = nullptr;
    std::uint64_t phys = 0;
    std::uint64_t page_size = 0;
    Rights rights;
  };

  /// One page, or less, of a read.
  struct Piece {
    std::size_t read;  ///< index of the read it is a part of
    GuestVirtAddr address;
    std::span<std::byte> into;
  };

  int levels() const { return static_cast<int>(paging_); }
  bool canonical(GuestVirtAddr address) const;
  Result<Region> walk(GuestVirtAddr address) const;
  Result<const Table*> table_at(std::uint64_t phys) const;
  const Table* keep(std::uint64_t phys, std::unique_ptr<const Table> table) const;
  void drop() const;
  std::uint64_t missing_table(GuestVirtAddr address) const;
  void prefetch(std::span<const Piece> pieces) const;
  std::vector<PhysRead> resolve(std::span<const Piece> pieces, std::span<VirtRead> reads,
                                std::vector<std::size_t>& owners) const;

  const GuestMemory* memory_;
  std::uint64_t root_;
  Paging paging_;
  mutable std::unordered_map<std::uint64_t, std::unique_ptr<const Table>> tables_;  // by address
  mutable std::array<Region, 256> regions_;  // the last ones used, by the low bits of their key
};

/// Writes `bytes` where `space` maps `address`, which `memory` is the RAM of; not across the end of
/// a 4 KiB page. Whoever writes calls AddressSpace::forget() first: by tables of an earlier look
/// the page may be another one's by now.
///
/// Errc::out_of_range when it crosses a page's end or is not mapped writable; errors of
/// AddressSpace::translate() and GuestMemory::write().
Result<void> write_mapped(GuestMemory& memory, const AddressSpace& space, GuestVirtAddr address,
                          std::span<const std::byte> bytes);

}  // namespace vpatch::introspect
