// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/guest_facts.h"

namespace vpatch {

/// What preflight asks of guest memory about `file`. What cannot be read carries the reason.
GuestFacts read_guest_facts(GuestView& view, const LivepatchFile& file);

}  // namespace vpatch
