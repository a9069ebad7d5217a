// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout_lock.h"

#include <filesystem>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/journal/journal.h"

namespace vpatch {

Result<RolloutLock> RolloutLock::acquire(const fleet::StoredRollout& rollout) {
  // A host may have more than one journal, each with a rollout of this name.
  std::error_code ignored;
  const auto journal = std::filesystem::weakly_canonical(Journal::path(), ignored).string();
  const auto name = fmt::format("rollout-{:016x}-{}", std::hash<std::string>()(journal),
                                std::to_underlying(rollout.id));
  auto lock =
      DomainLock::acquire(name, "rollout " + rollout.begin.name, "rollout " + rollout.begin.name);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  return RolloutLock(*std::move(lock));
}

}  // namespace vpatch
