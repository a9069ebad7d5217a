// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/stored_summary.h"

#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

using rollout::DomainState;

StoredRollout stored_with(const std::vector<DomainState>& states) {
  StoredRollout stored;
  for (std::uint32_t i = 0; i < states.size(); ++i) {
    RolloutDomain domain;
    domain.wave = i;
    domain.record.state = states[i];
    domain.record.failure = states[i] == DomainState::failed;
    stored.begin.domains.push_back(domain);
  }
  return stored;
}

TEST(StoredSummary, CountsStatesByWave) {
  rollout::Plan plan;
  plan.waves.resize(1);
  const auto summary = summary_of(
      plan, stored_with({DomainState::done, DomainState::failed, DomainState::watching}));
  ASSERT_EQ(summary.waves.size(), 3U) << "as many as the domains have, whatever the plan says";
  EXPECT_EQ(summary.waves[1].of(DomainState::failed), 1U);
  EXPECT_EQ(summary.domains.of(DomainState::done), 1U);
  EXPECT_EQ(summary.at_work, 1U);
  EXPECT_EQ(summary.failures, 1U);
}

TEST(StoredSummary, AcceptedFailuresDoNotCount) {
  rollout::Plan plan;
  plan.waves.resize(1);
  StoredRollout stored = stored_with({DomainState::failed});
  stored.record.accepted = 5;
  EXPECT_EQ(summary_of(plan, stored).failures, 0U);
}

TEST(StoredSummary, RolloutWithoutDomains) {
  rollout::Plan plan;
  plan.waves.resize(2);
  EXPECT_EQ(summary_of(plan, {}).waves.size(), 3U);
}

}  // namespace
}  // namespace vpatch::fleet
