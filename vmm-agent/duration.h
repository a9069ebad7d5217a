// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "vmm-agent/error.h"

namespace vpatch {

/// A duration as a user writes it: a decimal number and its unit, "20ms", "1.5s", "2m" or "1h",
/// without a space between. A number alone is in seconds. What is smaller than a millisecond is cut
/// off. Outcome::usage when it is none of these, or below `least` or above `most`.
Result<std::chrono::milliseconds> parse_duration(std::string_view text,
                                                 std::chrono::milliseconds least,
                                                 std::chrono::milliseconds most);

/// As parse_duration() takes it, in the largest unit that leaves a whole number: "90s", "20ms".
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace vpatch
