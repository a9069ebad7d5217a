// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// The guest as it is now, with the tasks that a running transition still waits for.
struct Status {
  GuestState guest;
  std::optional<PendingTasks> pending = PendingTasks{};  ///< unset when they could not be read
};

/// Looks, and changes nothing; needs no lock.
Result<Status> read_status(Context& context);

}  // namespace vpatch
