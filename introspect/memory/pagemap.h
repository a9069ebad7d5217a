// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <sys/types.h>

#include "introspect/error.h"
#include "introspect/memory/address.h"
#include "introspect/memory/unique_fd.h"

namespace vpatch::introspect {

/// An address of a process of the host, which is never followed as a pointer.
using HostAddr = Address<struct HostSpace>;
using HostRange = AddressRange<HostAddr>;

/// Which pages of a process exist, by /proc/PID/pagemap. Looking touches none of them. It keeps to
/// the process it was opened for, even when its id is given to another one.
///
/// One thread at a time.
class Pagemap {
 public:
  /// Errc::permission and Errc::io from the host.
  static Result<Pagemap> open(pid_t pid);

  /// The first run of pages at or after `from` and before `end` (both page-aligned) that are in
  /// memory or swapped; a long run may come in several answers. Nothing when there is none.
  /// Errc::io when the process has ended.
  Result<std::optional<HostRange>> next_run(HostAddr from, HostAddr end) const;

  /// Whether all pages of the range (page-aligned) exist now; errors as next_run().
  Result<bool> all_exist(HostRange pages) const;

 private:
  explicit Pagemap(UniqueFd fd);
  Result<void> load(HostAddr from, HostAddr end) const;

  UniqueFd fd_;
  // A walk asks for short runs one after the other: what was read for one serves the next ones.
  mutable std::vector<std::uint64_t> entries_;
  mutable HostRange held_;        // what entries_ are of
  mutable HostAddr continue_at_;  // where the last answer ended
};

}  // namespace vpatch::introspect
