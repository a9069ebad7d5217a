// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// Whom a force would move although it is not safe to.
struct ForceQuestion {
  std::string domain;
  std::string patch;
  PatchPhase direction{};  ///< patching or unpatching
  PendingTasks pending;
};

struct ForceOptions {
  std::string patch{};                        ///< name; empty: the one in transition
  std::chrono::milliseconds timeout{60'000};  ///< for the kernel to complete the transition then
  /// Asked once, with the tasks that are pending; an error says why nothing is forced.
  std::function<Result<void>(const ForceQuestion& question)> confirm{};
};

/// Ends the running transition by the kernel's last resort: all tasks count as moved, wherever they
/// are. The promise that no task mixes old and new code is broken for those that were pending, and
/// the guest should be rebooted. Only while a transition runs, and after confirmation. The caller
/// holds the domain's lock.
Report force(Context& context, const ForceOptions& options);

}  // namespace vpatch
