// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "introspect/error.h"

namespace vpatch::introspect {

/// A piece of a file, in bytes; `start` < `end`.
struct FileExtent {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
};

/// The size of the file behind `fd`. Errc::no_memory when it is not a regular file,
/// Errc::permission when it is not open for reading.
Result<std::uint64_t> readable_size(int fd);

/// Where the first data at or after `from` and before `end` starts; nothing when there are only
/// holes. A file system that does not know holes has data everywhere. Both offsets lie in the file,
/// as readable_size() has told it. Moves the file position.
Result<std::optional<std::uint64_t>> data_start(int fd, std::uint64_t from, std::uint64_t end);

/// As data_start(), and where that data ends, which takes the kernel a look at every page of it.
Result<std::optional<FileExtent>> next_data(int fd, std::uint64_t from, std::uint64_t end);

}  // namespace vpatch::introspect
