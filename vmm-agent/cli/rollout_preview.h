// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/fleet/gather.h"

namespace vpatch {

/// `vpatch rollout start --dry-run`: prints what would happen to whom. Outcome::refused when some
/// domain would refuse the livepatch.
Result<Outcome> show_preview(const rollout::Plan& plan, const fleet::Gathered& gathered,
                             const Options& options, const Interrupt& interrupt);

}  // namespace vpatch
