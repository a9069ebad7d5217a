// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace vpatch::qmp {

/// What one message may cost us. Bytes are counted before anything is parsed.
struct MessageLimits {
  std::size_t max_bytes = std::size_t{16} << 20;  ///< one line, in either direction
  std::size_t max_depth = 64;                     ///< nested arrays and objects
  std::size_t max_values = std::size_t{1} << 20;  ///< values in one message; bounds the parsed form
};

}  // namespace vpatch::qmp
