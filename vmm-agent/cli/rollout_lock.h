// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch {

/// Keeps every other process of this host from driving the same rollout.
class RolloutLock {
 public:
  /// Outcome::refused when another process drives it.
  static Result<RolloutLock> acquire(const fleet::StoredRollout& rollout);

 private:
  explicit RolloutLock(DomainLock lock) : lock_(std::move(lock)) {}

  DomainLock lock_;
};

}  // namespace vpatch
