// SPDX-License-Identifier: Apache-2.0
// Copies of livepatch files beside the journal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "vmm-agent/error.h"

namespace vpatch {

/// Where the file of that SHA-256 (lower-case hexadecimal) lies.
std::filesystem::path kept_file(const std::filesystem::path& journal, const std::string& sha256);

/// Writes the file under another name first: under its own it is whole, or not there. Makes the
/// folder around it, for its owner only. Outcome::refused.
Result<void> keep_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace vpatch
