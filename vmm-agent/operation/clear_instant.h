// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <vector>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// Who must be out of the way for a load.
struct ClearInstant {
  const LivepatchFile& file;
  bool unblocked = false;                                 ///< nobody would hold the patch up
  std::vector<introspect::ForbiddenFunction> quiesced{};  ///< and nobody is inside these
  std::chrono::milliseconds limit{};                      ///< how long to wait for that
};

/// Waits for an instant, seen in guest memory, at which nobody stands in the way. Outcome::refused
/// when there is none in time, with `in_the_way` filled in, or after Ctrl-C.
Result<void> wait_for_clear_instant(Context& context, const ClearInstant& wanted,
                                    PendingTasks& in_the_way);

}  // namespace vpatch
