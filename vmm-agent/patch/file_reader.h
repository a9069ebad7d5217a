// SPDX-License-Identifier: Apache-2.0
// Reads a whole file that a user named, whatever that name turns out to be.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

/// Reads all of `path`, which must be a regular file of 1 to `limit` bytes that does not change
/// meanwhile. Never blocks on a FIFO or a device. Errors (Outcome::refused) do not name the path;
/// the caller does.
Result<std::vector<std::byte>> read_regular_file(const std::filesystem::path& path,
                                                 std::size_t limit);

}  // namespace vpatch
