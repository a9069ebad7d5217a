// SPDX-License-Identifier: Apache-2.0
// Copies of livepatch files beside the journal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

/// Where the file of that SHA-256 (lower-case hexadecimal) lies.
std::filesystem::path kept_file(const std::filesystem::path& journal, const std::string& sha256);

/// SHA-256 in lower-case hexadecimal.
std::string sha256_of(std::span<const std::byte> bytes);

/// The bytes of the copy of that SHA-256, and of nothing else. Outcome::refused when `sha256` is
/// none in lower-case hexadecimal, when no such copy is there, when it is larger than `limit`, or
/// is another file.
Result<std::vector<std::byte>> read_kept_file(const std::filesystem::path& journal,
                                              std::string_view sha256, std::size_t limit);

/// Writes the file under another name first: under its own it is whole, or not there. Makes the
/// folder around it, for its owner only. Outcome::refused.
Result<void> keep_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace vpatch
