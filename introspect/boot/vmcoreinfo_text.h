// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "introspect/error.h"
#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// The largest text believed, in bytes. Kernels give it one page (VMCOREINFO_BYTES).
inline constexpr std::size_t kMaxVmcoreinfoText = 2 * kPageSize;

/// What the text of a VMCOREINFO note says, as far as vpatch uses it. Its form has been checked,
/// its truth has not: whoever can write guest memory can write such a text.
struct VmcoreinfoText {
  std::string release;   ///< OSRELEASE, as in `uname -r`: 1 to 64 printable characters, no spaces
  std::string build_id;  ///< BUILD-ID: lowercase hexadecimal digits; empty when not told
  std::optional<std::uint64_t> kernel_offset;  ///< KERNELOFFSET: KASLR's shift of the kernel, bytes
  std::optional<std::int64_t> phys_base;       ///< NUMBER(phys_base), x86: see kernel_phys()
  std::optional<std::uint64_t> uts_name_offset;  ///< OFFSET(uts_namespace.name), Linux 5.11 on
  std::optional<std::uint64_t> five_levels;      ///< NUMBER(pgtable_l5_enabled): 1 with LA57
  std::optional<std::uint64_t> sme_mask;  ///< NUMBER(sme_mask): not 0 where AMD encrypts memory
  std::map<std::string, GuestVirtAddr, std::less<>> symbols;  ///< SYMBOL(...), KASLR included

  std::optional<GuestVirtAddr> symbol(std::string_view name) const;

  /// Where an address inside the kernel's image lies in guest RAM; nothing when `phys_base` is not
  /// told, or the address is outside of the image's part of the address space. x86-64 only.
  std::optional<GuestPhysAddr> kernel_phys(GuestVirtAddr address) const;

  friend bool operator==(const VmcoreinfoText&, const VmcoreinfoText&) = default;
};

/// Reads the KEY=VALUE lines of a note's descriptor; `text` is hostile input.
///
/// Unknown keys are ignored, and so is a last line without its newline: the kernel cuts its text
/// where its page ends, so that the value may be cut too. Errc::corrupt when the text is too large,
/// holds anything but printable ASCII and newlines, has no OSRELEASE or no PAGESIZE of 4096, or
/// when a key used here has a malformed value or two different ones.
Result<VmcoreinfoText> parse_vmcoreinfo(std::string_view text);

}  // namespace vpatch::introspect
