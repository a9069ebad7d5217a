// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/rollout/plan.h"

namespace vpatch::fleet {

/// What an engine would say of a rollout as it is stored: for who only looks at it.
rollout::Summary summary_of(const rollout::Plan& plan, const StoredRollout& rollout);

}  // namespace vpatch::fleet
