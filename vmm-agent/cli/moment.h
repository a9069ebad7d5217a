// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "vmm-agent/error.h"

namespace vpatch {

/// A moment as a user writes it, in UTC: "2026-11-21", "2026-11-21T09:41", "2026-11-21 09:41:23",
/// also with a Z at its end; or how long before `now`: "90s", "15m", "2h", "7d". As the journal
/// writes it: "2026-11-21T09:41:23.000000Z". Outcome::usage when it is none of these.
Result<std::string> parse_moment(std::string_view text, std::chrono::system_clock::time_point now);

}  // namespace vpatch
