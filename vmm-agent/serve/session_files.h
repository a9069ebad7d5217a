// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/error.h"

namespace vpatch::serve {

/// The livepatch files of a session: in memory, named by their SHA-256 alone, sealed against
/// changes, and gone with the session however that ends.
class SessionFiles {
 public:
  /// Of all files together, in bytes.
  static constexpr std::size_t kMaxBytes = std::size_t{256} << 20;
  static constexpr std::size_t kMaxFiles = 64;

  /// Keeps the bytes that `base64` stands for. The same file again is done already. Returns their
  /// number. Outcome::refused when they are none, not those of `sha256`, or over a limit.
  Result<std::size_t> put(std::string_view sha256, std::string_view base64);

  /// The file's descriptor, which stays owned here; -1 when there is none.
  int find(std::string_view sha256) const;

 private:
  std::map<std::string, introspect::UniqueFd, std::less<>> files_;
  std::size_t bytes_ = 0;
};

}  // namespace vpatch::serve
