// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "qmp/channel.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// Who would block a livepatch if it were loaded now.
struct Forecast {
  std::size_t tasks = 0;               ///< that were looked at
  PendingTasks blockers{};             ///< those that would hold the transition up
  std::size_t running = 0;             ///< those that run, and would move by themselves in a moment
  std::vector<std::string> unknown{};  ///< functions that could not be held against the stacks
};

/// A moment in the guest's life, to hold a later one against.
struct GuestMark {
  std::uint64_t taint = 0;
  std::uint64_t log_sequence = 0;  ///< of the next record of its kernel log
};

/// The guest as an apply sees it from outside, without the guest's help. The one implementation
/// reads guest memory; tests put a fake in its place.
class Introspection {
 public:
  Introspection() = default;
  Introspection(const Introspection&) = delete;
  Introspection& operator=(const Introspection&) = delete;
  virtual ~Introspection() = default;

  virtual Result<Forecast> forecast(const LivepatchFile& file, const qmp::CallOptions& options) = 0;
  virtual Result<GuestMark> mark(const qmp::CallOptions& options) = 0;

  /// What is not as it should be with `file` in force: the patch is not enabled, a function is not
  /// redirected to it, new taint, new trouble in the kernel log. Empty when all is proved well.
  virtual Result<std::vector<std::string>> problems(const LivepatchFile& file,
                                                    const GuestMark& before,
                                                    const qmp::CallOptions& options) = 0;
};

}  // namespace vpatch
