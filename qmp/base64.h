// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vpatch::qmp {

/// The largest input of base64_encode(), in bytes.
inline constexpr std::size_t kBase64MaxInput = std::size_t{1} << 30;

/// Standard base64 with padding and no line breaks. `data` is at most kBase64MaxInput bytes long.
std::string base64_encode(std::span<const std::byte> data);

/// The bytes of canonical, padded base64 without white space; nothing when `text` is anything else.
std::optional<std::string> base64_decode(std::string_view text);

/// How long `bytes` bytes are in base64.
constexpr std::size_t base64_length(std::size_t bytes) {
  return (bytes + 2) / 3 * 4;
}

}  // namespace vpatch::qmp
