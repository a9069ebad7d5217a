// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "introspect/error.h"

namespace vpatch::introspect {

/// A failed system call as an Error: "<attempted>: <the errno's text>".
inline std::unexpected<Error> fail_errno(std::string_view attempted, int error) {
  const Errc code = error == EACCES || error == EPERM ? Errc::permission : Errc::io;
  return fail(code, fmt::format("{}: {}", attempted, std::generic_category().message(error)),
              error);
}

}  // namespace vpatch::introspect
