// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace vpatch::rollout {

/// The enumerator of a word, where `words` has those of an enumeration in its order.
template <class Enum, std::size_t kCount>
std::optional<Enum> parse_word(const std::array<std::string_view, kCount>& words,
                               std::string_view word) {
  const auto found = std::ranges::find(words, word);
  return found == words.end() ? std::nullopt
                              : std::optional(static_cast<Enum>(found - words.begin()));
}

}  // namespace vpatch::rollout
