// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace vpatch::test {

/// One way to sleep in the kernel.
struct SleeperKind {
  const char* name;  ///< for the task, at most 15 characters
  /// Goes to sleep in a process of its own, for ever. Comes back, or ends the process, only where
  /// the kernel does not know this way.
  void (*enter)();
};

std::span<const SleeperKind> sleeper_kinds();

/// Ends the process with exit code 1 unless `fine`.
void must(bool fine);

/// Makes the calling thread known by `name` in the guest.
void call_thread(const char* name);

}  // namespace vpatch::test
