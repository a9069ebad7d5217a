// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "vmm-agent/operation/context.h"
#include "vmm-agent/operation/transition.h"

namespace vpatch {

struct RevertOptions {
  std::string patch;  ///< name; empty: the only livepatch in force
  std::chrono::milliseconds timeout{60'000};
  OnStall on_stall = OnStall::revert;  ///< revert: put the livepatch in force again
};

/// Takes a livepatch out of force and unloads its module, unless a transition of it was forced:
/// then the module stays. A patch that is not there is no error: there is nothing to do. The caller
/// holds the domain's lock.
Report revert(Context& context, const RevertOptions& options);

}  // namespace vpatch
