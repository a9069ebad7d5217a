// SPDX-License-Identifier: Apache-2.0
// Rollouts made up for tests of what is shown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::fleet {

struct SampleRollout {
  StoredRollout rollout;
  std::vector<RolloutEvent> events;
  rollout::Time now{};
  std::map<rollout::DomainId, std::string> doing;  ///< what verbs say at `now`
};

enum class SampleEnd : std::uint8_t {
  done,    ///< all waves
  paused,  ///< the budget is spent, with domains at work
  rolled_back
};

/// With a canary, four waves, two kernels, three connections, failures of each kind, a lost
/// connection, and domains that are off or that no file is for. The same each time.
SampleRollout sample_rollout(std::size_t domains, SampleEnd end);

}  // namespace vpatch::fleet
