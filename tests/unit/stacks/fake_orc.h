// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../fakes/sparse_virtual_memory.h"
#include "introspect/stacks/orc.h"

namespace vpatch::introspect::testing {

/// Type information by hand.
class FakeTypes final : public Types {
 public:
  Result<Member> member(std::string_view type, std::string_view path) const override;
  Result<std::uint64_t> size_of(std::string_view type) const override;
  Result<std::int64_t> enumerator(std::string_view name) const override;

  std::map<std::string, Member> members;  // "type.member"
  std::map<std::string, std::uint64_t> sizes;
};

/// Types as BTF of Debian's kernels has them: struct orc_entry, pt_regs and inactive_task_frame.
FakeTypes types_of_6_1();
FakeTypes types_of_6_12();

/// The numbers that kernels write.
enum RawRegister : unsigned { kUndefined, kPrevSp, kDx, kDi, kBp, kSp, kR10, kR13, kBpInd, kSpInd };
enum RawType : unsigned { kNone, kEnd, kCall, kRegs, kRegsPartial };  // from 6.4 on
enum OldType : unsigned { kOldCall, kOldRegs, kOldRegsPartial };      // until 6.3

/// One struct orc_entry.
struct RawOrc {
  std::int16_t sp_offset = 0, bp_offset = 0;
  unsigned sp_reg = kUndefined, bp_reg = kUndefined;
  unsigned type = 0;
  bool signal = false;  // only of the new form
  bool end = false;     // only of the old form

  std::array<std::byte, 6> packed_as_6_1() const;
  std::array<std::byte, 6> packed_as_6_12() const;
};

/// A frame of `size` bytes, return address included, counted from sp.
RawOrc call_frame(std::int16_t size);

/// A table that is being put together, of the new form or as 6.1 has it; entries in any order.
class OrcBuilder {
 public:
  bool as_6_1 = false;

  OrcFormat format() const;
  void add(std::uint64_t ip, const RawOrc& entry) { entries_.emplace_back(ip, entry); }
  /// Puts the table where `text`'s addresses can be told from it.
  OrcTableLocation write(SparseVirtualMemory& memory, VirtRange text, std::uint64_t ips,
                         std::uint64_t entries) const;

 private:
  std::vector<std::pair<std::uint64_t, RawOrc>> entries_;
};

OrcFormat new_format();

inline VirtRange range(std::uint64_t start, std::uint64_t size) {
  return VirtRange::between(GuestVirtAddr(start), GuestVirtAddr(start + size));
}

}  // namespace vpatch::introspect::testing
