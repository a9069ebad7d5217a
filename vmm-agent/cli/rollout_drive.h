// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch {

/// Drives a rollout until it has finished, is paused, or the user ends it, and shows how it goes. A
/// first Ctrl-C pauses it, so that what is at work ends; a second interrupts that too. `command`
/// comes first. The caller holds the rollout's lock.
Result<Outcome> drive_rollout(fleet::RolloutStore& store, const fleet::StoredRollout& rollout,
                              const std::optional<rollout::Command>& command,
                              const Options& options, const Interrupt& interrupt);

rollout::Time wall_clock();
/// Path of this program.
std::string own_program();
/// 16 random bytes, in hexadecimal.
std::string random_seed();
/// Columns of the terminal on standard output; 100 where there is none.
std::size_t terminal_width();

}  // namespace vpatch
