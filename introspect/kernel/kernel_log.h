// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// One record of the kernel's log.
struct LogRecord {
  std::uint64_t sequence = 0;
  std::uint64_t time_ns = 0;  ///< since boot, by the kernel's local clock
  std::uint8_t facility = 0;  ///< as of syslog; 0 is the kernel
  std::uint8_t level = 0;     ///< 0 emergency to 7 debug
  std::string text;           ///< lines divided by '\n'; tabs; other unprintable bytes as \xNN
};

/// What was read of it.
struct KernelLog {
  std::vector<LogRecord> records;    ///< in rising order of sequence
  std::uint64_t first_sequence = 0;  ///< the oldest that the kernel still has
  std::uint64_t next_sequence = 0;   ///< what a follower asks for next
  std::uint64_t lost = 0;            ///< asked for, and overwritten already
};

/// Where the ring buffer keeps that (struct printk_ringbuffer, Linux 5.10 on); once a boot.
struct LogLayout {
  GuestVirtAddr prb;                                ///< the pointer `prb`
  std::uint64_t desc_ring = 0, text_data_ring = 0;  ///< in struct printk_ringbuffer
  std::uint64_t count_bits = 0, descs = 0, infos = 0, head_id = 0, tail_id = 0;  ///< prb_desc_ring
  std::uint64_t desc_size = 0, state_var = 0, text_blk_lpos = 0;                 ///< prb_desc
  std::uint64_t lpos_begin = 0, lpos_next = 0;                      ///< in struct prb_data_blk_lpos
  std::uint64_t info_size = 0, seq = 0, ts_nsec = 0, text_len = 0;  ///< printk_info
  std::uint64_t facility = 0;
  std::uint64_t level_bit = 0, level_bits = 0;  ///< a bit-field, in bits from the start
  std::uint64_t size_bits = 0, data = 0;        ///< prb_data_ring

  static Result<LogLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

/// The records from sequence number `from` on, at most `max` of the newest. Records that are being
/// written, and all after them, are left for the next call; one that is overwritten while it is
/// read, or for whose text there was no room, counts as lost. When `from` is past the newest (the
/// guest has rebooted), the answer has no records.
///
/// Errc::corrupt when the ring makes no sense, Errc::torn when it moved too fast to be read. Memory
/// is bounded by the ring, and that by 64 MiB.
Result<KernelLog> read_kernel_log(const VirtualMemory& memory, const LogLayout& layout,
                                  std::uint64_t from = 0, std::size_t max = 1'000'000);

}  // namespace vpatch::introspect
