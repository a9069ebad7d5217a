// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/stored_summary.h"

#include <algorithm>

namespace vpatch::fleet {

rollout::Summary summary_of(const rollout::Plan& plan, const StoredRollout& rollout) {
  using rollout::DomainState;
  const auto& domains = rollout.begin.domains;
  rollout::Summary summary;
  summary.rollout = rollout.record;
  std::size_t waves = plan.waves.size() + 1;
  std::uint64_t failures = 0;
  for (const RolloutDomain& domain : domains) {
    waves = std::max<std::size_t>(waves, std::size_t{domain.wave} + 1);
  }
  summary.waves.resize(waves);
  for (const RolloutDomain& domain : domains) {
    const DomainState state = domain.record.state;
    summary.domains.add(state);
    summary.waves[domain.wave].add(state);
    failures += domain.record.failure ? 1 : 0;
    summary.at_work += state == DomainState::applying || state == DomainState::watching ||
                               state == DomainState::reverting
                           ? 1
                           : 0;
  }
  summary.failures = failures - std::min<std::uint64_t>(failures, rollout.record.accepted);
  summary.budget = plan.limits.budget.of(domains.size());
  return summary;
}

}  // namespace vpatch::fleet
