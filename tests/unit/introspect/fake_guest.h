// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fake_memory.h"

namespace vpatch::introspect {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// Where a booted kernel has its real-mode page table, and where the last entry of any table is.
inline constexpr std::uint64_t kRealModeTable = 0x9c000;
inline constexpr std::uint64_t kLastEntry = std::uint64_t{511} * 8;

/// The bytes of a VMCOREINFO note with this text.
std::string note_of(std::string_view text);

/// Another header, for notes that are not quite right.
struct NoteHeader {
  std::uint32_t name_size = 11;
  std::uint32_t text_size = 0;
  std::uint32_t type = 0;
  std::string_view name = "VMCOREINFO";
};
std::string note_of(const NoteHeader& header, std::string_view text);

/// One kernel as it lies in guest RAM: its note, its name and its top page table.
struct FakeKernel {
  std::string release = "6.1.0-56-cloud-amd64";
  std::uint64_t note = 0x1866000;
  std::uint64_t image =
      0x8000000;  ///< where the image starts; init_uts_ns and init_top_pgt are in it
  std::uint64_t shift = 0x1c00000;  ///< KERNELOFFSET

  std::uint64_t uts() const { return image + 0x621bc0; }
  std::uint64_t top_table() const { return image + 0x422000; }
  std::uint64_t top_entry() const { return (image + 0x427000) | 0x67; }
  std::string text() const;

  /// Puts the image (name and page table) into memory, without a note.
  void put_image(FakeMemory& memory) const;
  /// Puts the image and the note, as an earlier boot leaves them behind.
  void put(FakeMemory& memory) const;
  /// Makes this the kernel that has booted last: its real-mode page table is in the first MiB.
  void boot(FakeMemory& memory) const;
};

}  // namespace vpatch::introspect
