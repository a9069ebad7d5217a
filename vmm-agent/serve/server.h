// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "introspect/memory/unique_fd.h"

namespace vpatch::serve {

struct ServerOptions {
  std::string program = "/proc/self/exe";  ///< does the work: `PROGRAM VERB --json ...`
  std::string vpatch{};                    ///< version of vpatch, for `hello`
  std::chrono::milliseconds heartbeat{5'000};
  /// How long a process may take to put its guest in order once it was interrupted. Far above what
  /// take_back() of a livepatch and its patience take: past it the process is hung, and killed.
  std::chrono::milliseconds end_limit = std::chrono::minutes(15);
  std::size_t max_running = 64;
};

/// `vpatch serve --stdio`: answers the requests of docs/serve.md that come in on `input`, until it
/// ends, the other end of `output` is closed, or SIGINT, SIGTERM or SIGHUP. Then all work is
/// interrupted (SIGINT), waited for, and answered where somebody still listens. One thread; ignores
/// SIGPIPE from here on.
void run_server(introspect::UniqueFd input, introspect::UniqueFd output,
                const ServerOptions& options);

}  // namespace vpatch::serve
