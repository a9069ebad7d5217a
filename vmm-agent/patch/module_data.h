// SPDX-License-Identifier: Apache-2.0
// The data of a module as the kernel's loader would leave it: section contents with the relocations
// on top.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "vmm-agent/patch/elf_module.h"

namespace vpatch {

/// Why klp_patch was not read.
struct Stop {
  enum class Kind : std::uint8_t {
    unknown,  ///< it may be fine, but cannot be told from the file
    corrupt,  ///< it contradicts itself, the kernel could not use it
  };
  Kind kind;
  std::string why;
};

template <class T>
using Reading = std::expected<T, Stop>;

inline std::unexpected<Stop> stop_unknown(std::string why) {
  return std::unexpected(Stop{Stop::Kind::unknown, std::move(why)});
}
inline std::unexpected<Stop> stop_corrupt(std::string why) {
  return std::unexpected(Stop{Stop::Kind::corrupt, std::move(why)});
}

/// What a pointer points at.
struct Target {
  std::optional<Place> place;  ///< unset for a symbol from outside the module
  std::string_view symbol;     ///< name of the symbol at exactly this address, or empty
};

/// Where the relocated value lies. `bias` is added to the addend: 4 for the operand of a
/// PC-relative instruction.
Reading<Target> target_of(const ElfModule& module, const ElfRelocation& relocation,
                          std::int64_t bias = 0);

/// "'.data'+0x40", for messages.
std::string describe(const ElfModule& module, Place place);

/// The pointer stored at `place`; nothing for NULL. Corrupt: outside the section, any relocation
/// but one R_X86_64_64, or a value where the relocation goes (the kernel's loader refuses that, and
/// a fixed address is no pointer in a module).
Reading<std::optional<Target>> read_pointer(const ElfModule& module, Place place);

/// The little-endian number of `width` bytes (1 to 8) at `place`. Corrupt: outside the section, or
/// relocated.
Reading<std::uint64_t> read_number(const ElfModule& module, Place place, std::uint64_t width);

/// The string at `target`: printable ASCII, 1 to 511 bytes (KSYM_NAME_LEN without the NUL).
Reading<std::string> read_string(const ElfModule& module, const Target& target);

}  // namespace vpatch
