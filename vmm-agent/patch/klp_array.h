// SPDX-License-Identifier: Apache-2.0
// Walks a klp_object or klp_func array whose entry size is unknown, as the kernel does: entry by
// entry up to the empty one.
//
// The rule that makes the spacing certain: an entry's relocations all lie in its leading fields,
// and an entry of any kernel takes at least kSmallest and less than 2 * kSmallest bytes (klp_func:
// 152, klp_object: 168 on 6.1 and 6.12). So the second entry, if there is one, is the only thing
// that can have relocations in the window [kSmallest, 2 * kSmallest) after the first, for even an
// array of one entry reaches that far with its empty one. Where relocations further on could also
// belong to the array, because a kernel's debug options may have made its entries larger, the
// spacing is unknown.
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "vmm-agent/patch/elf_module.h"
#include "vmm-agent/patch/module_data.h"

namespace vpatch {

/// An upper bound of the array that starts at `array`: the end of the symbol that covers it;
/// without one the next symbol, the next of the `starts` of other structures, or the end of the
/// section.
std::uint64_t end_of_array(const ElfModule& module, Place array, const std::set<Place>& starts);

/// Keeps references: `module` and `starts` must outlive it, and `starts` may grow between two calls
/// of next().
class KlpArray {
 public:
  enum class Kind : std::uint8_t { objects, functions };
  static constexpr std::uint64_t kSmallest = 120;

  KlpArray(const ElfModule& module, Kind kind, Place array, const std::set<Place>& starts)
      : module_(module), kind_(kind), array_(array), starts_(starts) {}

  /// The next entry; nothing at the empty one. Unknown: the spacing cannot be told. Corrupt: there
  /// is no empty entry.
  Reading<std::optional<Place>> next();

 private:
  Reading<void> find_spacing();
  Reading<void> check_fields(Place entry) const;
  Reading<bool> is_empty(Place entry) const;
  bool has_relocation(Place at) const;
  const char* name() const { return kind_ == Kind::objects ? "klp_object" : "klp_func"; }

  const ElfModule& module_;
  Kind kind_;
  Place array_;
  const std::set<Place>& starts_;
  std::uint64_t count_ = 0;               ///< entries handed out
  std::optional<std::uint64_t> spacing_;  ///< known from the second entry on
};

}  // namespace vpatch
