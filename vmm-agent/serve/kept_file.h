// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "vmm-agent/error.h"

namespace vpatch::serve {

/// The largest that is given to others, in bytes: it fits in a line, in base64.
inline constexpr std::size_t kMaxKeptFile = std::size_t{32} << 20;

/// The bytes of a registered livepatch, of which the journal at `journal` keeps a copy. Reads the
/// copy alone. Outcome::refused when `sha256` is no SHA-256 in lower-case hexadecimal, when no such
/// copy is there, when it is larger than kMaxKeptFile, or is another file.
Result<std::string> read_kept_file(const std::filesystem::path& journal, std::string_view sha256);

}  // namespace vpatch::serve
