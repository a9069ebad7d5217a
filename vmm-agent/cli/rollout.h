// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/options.h"

namespace vpatch {

/// `vpatch rollout`: prints all that it has to say. Its exit codes are in docs/rollout.md.
Outcome run_rollout(const Options& options, const Interrupt& interrupt);

}  // namespace vpatch
