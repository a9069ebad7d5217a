// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/pause_lock.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <fmt/format.h>
#include <sys/file.h>

#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/wait.h"

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kPatience{1500};
constexpr std::chrono::milliseconds kTryAgain{5};

}  // namespace

Result<PauseLock> PauseLock::take(const std::string& identity, const std::string& name,
                                  const qmp::CallOptions& options) {
  auto file = open_lock_file(identity + ".pause");
  if (!file) {
    return std::unexpected(std::move(file.error()));
  }
  const auto give_up = std::chrono::steady_clock::now() + std::min(options.timeout, kPatience);
  while (flock(file->fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return lock_file_error("lock", file->path);
    }
    if (options.stop.stop_requested()) {
      return fail(Outcome::refused, "interrupted");
    }
    if (std::chrono::steady_clock::now() >= give_up) {
      return fail(Outcome::refused,
                  fmt::format("{}: another vpatch pauses it, or watches over a pause that it has "
                              "asked for",
                              name),
                  "Try again in a minute.");
    }
    wait_unless_stopped(kTryAgain, options.stop);
  }
  return PauseLock(std::move(file->fd));
}

}  // namespace vpatch
