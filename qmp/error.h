// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace vpatch::qmp {

/// What kind of failure a call met; what a caller may want to tell apart, and no more.
enum class Errc : std::uint8_t {
  connect,    ///< the socket could not be opened; `Error::sys_errno` says why
  closed,     ///< the peer hung up, or the connection broke
  timeout,    ///< no answer before the call's deadline
  cancelled,  ///< the caller's stop token was triggered
  protocol,   ///< the peer sent something that is not this protocol
  too_large,  ///< a message or an output went over its cap
  command,    ///< the peer answered with an error; `Error::error_class` is its class
  argument,   ///< the call itself is wrong (nothing was sent)
};

/// A failure as a value. `what` says what was attempted and what came of it, as one line without a
/// final dot.
struct Error {
  Errc code{};
  std::string what;
  std::string
      error_class{};  ///< QMP error class ("CommandNotFound", "GenericError"), for Errc::command
  int sys_errno = 0;  ///< errno value, 0 where there is none
};

template <class T>
using Result = std::expected<T, Error>;

/// A stable word for each kind, such as "timeout"; for logs and tests.
std::string_view to_string(Errc code);

}  // namespace vpatch::qmp
