// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "introspect/memory/unique_fd.h"
#include "qmp/channel.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// One pause of a domain at a time on this host. Held by the process that pauses, and by its
/// guardian from when that is armed until it cannot resume any more; free once both have let go,
/// however they end. Unlike DomainLock it is also taken by those who only look.
class PauseLock {
 public:
  /// Waits a little for its holder: more than a look's pause may last. `identity` and `name` are
  /// the domain's. Outcome::refused when it stays held, nothing having been asked of the domain.
  static Result<PauseLock> take(const std::string& identity, const std::string& name,
                                const qmp::CallOptions& options);

  int fd() const { return fd_.get(); }

 private:
  explicit PauseLock(introspect::UniqueFd fd) : fd_(std::move(fd)) {}

  introspect::UniqueFd fd_;
};

}  // namespace vpatch
