// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace vpatch::introspect {

/// What kind of failure a look into a guest met; what a caller may want to tell apart, and no more.
enum class Errc : std::uint8_t {
  no_memory,     ///< what was given cannot be a guest's memory (not a file, no region)
  permission,    ///< the host does not let us read it; `Error::sys_errno` says why
  out_of_range,  ///< an address, or a region, outside of what there is
  not_found,     ///< all was looked at and it is not there
  ambiguous,     ///< several answers contradict each other and nothing tells which is right
  torn,          ///< the guest changed it while it was read: trying again may help
  corrupt,       ///< it is there, and is not what it should be
  io,            ///< the host's read failed; `Error::sys_errno` says how
};

/// A failure as a value. `what` says what was attempted and what came of it, as one line without a
/// final dot. It holds no bytes of the guest that are not printable ASCII.
struct Error {
  Errc code{};
  std::string what;
  int sys_errno = 0;  ///< errno value, 0 where there is none

  /// Puts the context of an outer step in front: "learn the kernel release: <what>".
  Error&& in_context(std::string_view context) && {
    what.insert(0, ": ");
    what.insert(0, context);
    return std::move(*this);
  }
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Errc code, std::string what, int sys_errno = 0) {
  return std::unexpected(Error{code, std::move(what), sys_errno});
}

/// A stable word for each kind, such as "not-found"; for logs and tests.
std::string_view to_string(Errc code);

}  // namespace vpatch::introspect
