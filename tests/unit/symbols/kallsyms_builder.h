// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/boot/vmcoreinfo_text.h"
#include "tests/unit/fakes/sparse_virtual_memory.h"

namespace vpatch::introspect::testing {

/// Writes kallsyms tables into a fake guest. Letters stand for themselves; the one-byte token 1
/// stands for "task", so that some names are compressed.
class KallsymsBuilder {
 public:
  static constexpr std::uint64_t kBase = 0xffff'ffff'8100'0000;
  static constexpr GuestVirtAddr kCount{0xffff'ffff'8200'0000};
  static constexpr GuestVirtAddr kNames{0xffff'ffff'8210'0000};
  static constexpr GuestVirtAddr kTokenTable{0xffff'ffff'8220'0000};
  static constexpr GuestVirtAddr kTokenIndex{0xffff'ffff'8230'0000};
  static constexpr GuestVirtAddr kOffsets{0xffff'ffff'8240'0000};
  static constexpr GuestVirtAddr kRelativeBase{0xffff'ffff'8250'0000};

  /// Symbols are to be added in the order of their addresses; those below kBase are per-CPU.
  void add(std::string_view name, std::uint64_t address, char type = 'T');
  /// All offsets are counted from the base, and no symbol can be per-CPU.
  void use_plain_offsets() { plain_ = true; }

  void put(SparseVirtualMemory& memory) const;
  /// Names the tables, and the places of _stext, init_uts_ns and init_top_pgt if there are such.
  VmcoreinfoText text() const;

 private:
  struct Entry {
    std::string name;
    std::uint64_t address = 0;
    char type = 'T';
  };

  std::vector<Entry> entries_;
  bool plain_ = false;
};

}  // namespace vpatch::introspect::testing
