// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "vmm-agent/operation/context.h"
#include "vmm-agent/operation/transition.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

inline constexpr std::chrono::milliseconds kQuiesceWait{60'000};

struct ApplyOptions {
  std::chrono::milliseconds timeout{60'000};  ///< for the transition
  OnStall on_stall = OnStall::revert;
  std::chrono::milliseconds grace{10'000};  ///< before replaced modules are unloaded
  bool dry_run = false;
  /// Load only at an instant at which no task would hold the transition up; wait that long for one.
  std::optional<std::chrono::milliseconds> when_clear{};
  /// Functions ("function" or "module:function") that are not changed and yet must be on no stack:
  /// the patch is loaded only at such an instant; waits for one as `when_clear`, or kQuiesceWait.
  std::vector<std::string> quiesce{};
  bool must_record = false;  ///< load nothing that cannot be recorded first
  PreflightOptions preflight{};
};

/// Puts a livepatch in force in a running guest: preflight, deliver, load, transition, verify,
/// clean up. Whatever fails, the guest ends either patched or as it was, and the report says which;
/// where that cannot be reached or seen, the outcome is failed_needs_look. The caller holds the
/// domain's lock.
Report apply(Context& context, const LivepatchFile& file, const ApplyOptions& options);

}  // namespace vpatch
