// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/error.h"

namespace vpatch {

struct LockFile {
  introspect::UniqueFd fd;
  std::string path;
};

/// Opens `<name>.lock` in the folder that all users of the host share. Outcome::refused when that
/// cannot be.
Result<LockFile> open_lock_file(const std::string& name);

/// What errno says about a lock file, and what to do about it.
std::unexpected<Error> lock_file_error(const std::string& what, const std::string& path);

/// Keeps every other vpatch of this host away from one domain while a change is under way. The
/// kernel drops the lock with the process, however that ends, so no stale lock can remain.
class DomainLock {
 public:
  /// Takes the lock at once, or refuses (Outcome::refused) and names the process that holds it.
  /// `identity` is Domain::identity(); `what` tells others what is under way ("apply patch.ko").
  static Result<DomainLock> acquire(const std::string& identity, const std::string& domain,
                                    const std::string& what);

  /// What works on the domain right now, as `what` told; empty when nothing does.
  static std::string holder(const std::string& identity);

 private:
  explicit DomainLock(introspect::UniqueFd fd) : fd_(std::move(fd)) {}

  introspect::UniqueFd fd_;
};

}  // namespace vpatch
