// SPDX-License-Identifier: Apache-2.0
// The order of a rollout.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/rollout/selection.h"

namespace vpatch::rollout {

/// Places in the list of targets, each in the order in which they are begun.
struct Waves {
  std::vector<std::size_t> canary;              ///< empty when the plan has none
  std::vector<std::vector<std::size_t>> waves;  ///< as many as the plan's; the last may be empty
};

/// Puts each chosen target into the canary or into one wave. The order is that of the SHA-256 of
/// `seed` and identity: the same for the same plan on any host and in any order of `targets`, and
/// the domains of one connection are spread over all waves.
/// Outcome::refused when the plan's canary takes none of the chosen targets: to begin without it
/// would skip it.
Result<Waves> make_waves(const Plan& plan, std::span<const Target> targets,
                         std::span<const Selected> selected, std::string_view seed);

}  // namespace vpatch::rollout
