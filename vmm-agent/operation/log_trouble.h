// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// What the guest's log tells of trouble since `mark` (Guest::log_mark()), asked of its agent
/// patiently: Outcome::failed_needs_look, and the lines in the report. What the agent fails with
/// when it cannot be read.
Result<void> look_at_log(Context& context, const std::string& mark, Report& report);

}  // namespace vpatch
