// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// What an ORC entry says of the frame that an instruction runs in.
enum class OrcType : std::uint8_t {
  undefined,
  end_of_stack,
  empty,  ///< until Linux 6.3: the end of a stack, or code such as a retpoline that has no frame
  call,
  regs,
  regs_partial,
};

/// What a frame's stack or frame pointer is counted from (arch/x86/include/asm/orc_types.h).
enum class OrcRegister : std::uint8_t {
  undefined,
  prev_sp,
  dx,
  di,
  bp,
  sp,
  r10,
  r13,
  bp_indirect,
  sp_indirect,
};

/// One ORC entry, independent of the kernel that wrote it.
struct OrcEntry {
  OrcType type = OrcType::undefined;
  OrcRegister sp_register = OrcRegister::undefined;
  OrcRegister bp_register = OrcRegister::undefined;
  std::int16_t sp_offset = 0;
  std::int16_t bp_offset = 0;
  bool signal = false;  ///< the frame below was interrupted here: its address is exact

  friend bool operator==(const OrcEntry&, const OrcEntry&) = default;
};

/// How this kernel packs `struct orc_entry`; from its type information, since releases differ (a
/// 2-bit type and an end bit until 6.3, a 3-bit type from 6.4 on).
class OrcFormat {
 public:
  static constexpr std::size_t kEntrySize = 6;

  /// Errc::not_found when the kernel has no ORC, Errc::corrupt for a layout not known here: such a
  /// kernel's stacks are never called reliable.
  static Result<OrcFormat> probe(const Types& types);

  /// Unknown register or type numbers give OrcType::undefined.
  OrcEntry decode(std::span<const std::byte, kEntrySize> bytes) const;

 private:
  OrcFormat() = default;

  OrcType type_of(std::uint64_t entry, OrcRegister sp_register) const;

  Member sp_offset_, bp_offset_, sp_register_, bp_register_, type_;
  std::optional<Member> signal_;  // without it, frames of saved registers are the exact ones
  std::optional<Member> end_;     // only with the older numbering of types
};

/// Where one ORC table lies: of the kernel, or of one module.
struct OrcTableLocation {
  VirtRange text;         ///< the code it describes
  GuestVirtAddr ips;      ///< int32[count], each relative to its own address, rising
  GuestVirtAddr entries;  ///< struct orc_entry[count]
  std::uint32_t count = 0;

  friend bool operator==(const OrcTableLocation&, const OrcTableLocation&) = default;
};

/// The largest number of entries believed, of one table and of all together; kernels have 500,000
/// to 1,500,000.
inline constexpr std::uint32_t kMaxOrcEntries = 4'000'000;

/// The ORC tables of one kernel and its modules. Tables never change while their code is loaded, so
/// answers are kept: the first look at a table costs one read_many() of an index (4 bytes for every
/// 2048 entries), a new address two reads of at most 8 KiB, one seen before no read. Memory is
/// bounded by about 150 KiB. One thread at a time.
class OrcTables {
 public:
  /// `memory` must outlive this object. Tables that are too large or run past 64 bits are left
  /// out: addresses in their text then have no entry. One whose text is empty or overlaps an
  /// earlier one's text counts for nothing.
  OrcTables(const VirtualMemory& memory, OrcFormat format,
            const std::vector<OrcTableLocation>& tables);
  ~OrcTables();
  OrcTables(OrcTables&&) noexcept;
  OrcTables& operator=(OrcTables&&) noexcept;

  /// The entry for the instruction at `ip`; nothing when no table knows it, or its table cannot be
  /// read or is not in order there.
  std::optional<OrcEntry> find(GuestVirtAddr ip) const;

  /// Whether `ip` lies in the text of any table, which may or may not have an entry for it.
  bool covers(GuestVirtAddr ip) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vpatch::introspect
