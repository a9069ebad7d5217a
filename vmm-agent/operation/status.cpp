// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/status.h"

namespace vpatch {

Result<Status> read_status(Context& context) {
  auto guest = context.guest.observe(context.interruptible());
  if (!guest) {
    return std::unexpected(guest.error());
  }
  Status status{.guest = *std::move(guest)};
  if (const GuestPatch* patch = status.guest.in_transition(); patch != nullptr) {
    auto pending = context.guest.pending_tasks(patch->enabled, context.interruptible());
    // A list too long to be made in time is no reason to hide the rest.
    status.pending = pending ? std::optional(*std::move(pending)) : std::nullopt;
  }
  return status;
}

}  // namespace vpatch
