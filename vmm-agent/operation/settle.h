// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "vmm-agent/operation/apply.h"

namespace vpatch {

/// apply(), and when that has loaded the livepatch, a watch of `settle` after it. A guest that
/// crashes, falls silent, or whose kernel log tells of trouble in that time ends as
/// failed_needs_look. Ctrl-C ends the watch.
Report apply_and_watch(Context& context, const LivepatchFile& file, const ApplyOptions& options,
                       std::chrono::milliseconds settle);

}  // namespace vpatch
