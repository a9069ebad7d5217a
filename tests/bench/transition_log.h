// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/kernel/kernel_log.h"

namespace vpatch::bench {

enum class Direction : std::uint8_t { patching, unpatching };

std::string_view to_string(Direction direction);

/// How long the last transition of `patch` in that direction took, in milliseconds, by the guest's
/// own log: from the line that says that it starts to the line that says that it is complete.
/// Nothing when either line is missing.
std::optional<double> transition_ms(const std::vector<introspect::LogRecord>& records,
                                    const std::string& patch, Direction direction);

}  // namespace vpatch::bench
