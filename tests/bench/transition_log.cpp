// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_log.h"

#include <fmt/format.h>

namespace vpatch::bench {

std::string_view to_string(Direction direction) {
  return direction == Direction::patching ? "patching" : "unpatching";
}

std::optional<double> transition_ms(const std::vector<introspect::LogRecord>& records,
                                    const std::string& patch, Direction direction) {
  const std::string starting =
      fmt::format("livepatch: '{}': starting {} transition", patch, to_string(direction));
  const std::string complete =
      fmt::format("livepatch: '{}': {} complete", patch, to_string(direction));
  bool started = false;
  std::uint64_t start = 0;
  std::optional<double> took;
  for (const introspect::LogRecord& record : records) {
    if (record.text == starting) {
      started = true;
      start = record.time_ns;
      took.reset();
    } else if (record.text == complete && started && record.time_ns >= start) {
      constexpr double kNsPerMs = 1e6;
      took = static_cast<double>(record.time_ns - start) / kNsPerMs;
      started = false;
    }
  }
  return took;
}

}  // namespace vpatch::bench
