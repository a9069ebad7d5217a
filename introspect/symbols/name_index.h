// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace vpatch::introspect {

/// The longest name believed; kernels allow 512 with the NUL (KSYM_NAME_LEN).
inline constexpr std::size_t kMaxName = 512;

/// A quick hash for NameIndex.
std::uint32_t hash_name(std::string_view name);

/// Numbers by the hash of their name. Holds no names: whoever asks compares the few candidates.
///
/// Built in linear time whatever the hashes are: many equal ones, which a hostile guest can make,
/// slow a query down to a walk over them, and nothing else.
class NameIndex {
 public:
  struct Entry {
    std::uint32_t hash = 0;
    std::uint32_t value = 0;
  };

  NameIndex() = default;
  explicit NameIndex(std::span<const Entry> entries);

  /// All values that were entered with this hash, in the order they were, and maybe others.
  std::span<const std::uint32_t> candidates(std::uint32_t hash) const;

 private:
  std::uint32_t mask_ = 0;
  std::vector<std::uint32_t> starts_;  // of each bucket in values_, and the end of the last
  std::vector<std::uint32_t> values_;
};

}  // namespace vpatch::introspect
