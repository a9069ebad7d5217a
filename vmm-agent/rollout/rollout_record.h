// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm-agent/rollout/domain_state.h"

namespace vpatch::rollout {

/// Which way a rollout goes.
enum class Course : std::uint8_t { forward, aborted, back };

/// Why it is paused, was aborted or is rolled back.
enum class Cause : std::uint8_t {
  none,
  command,          ///< an operator
  budget,           ///< more failures than the budget has
  canary,           ///< a canary failed
  canary_unproven,  ///< no domain of the canary could be patched: all are off or unmatched
  inconclusive,     ///< a health check
  no_progress,      ///< the deadline without one domain more that is done
};

std::string_view to_string(Course course);
std::string_view to_string(Cause cause);
// The meaning of such a word.
std::optional<Course> parse_course(std::string_view word);
std::optional<Cause> parse_cause(std::string_view word);

/// All that is journaled of the rollout itself.
struct RolloutRecord {
  Course course = Course::forward;
  bool paused = false;
  bool finished = false;  ///< nothing is left to do, unless it is rolled back
  Cause cause = Cause::none;
  std::optional<DomainId> domain{};  ///< of the cause
  std::string text{};                ///< of the cause
  std::uint32_t wave = 0;  ///< the one at work; 0 is the canary's; past the last: all done
  std::optional<Time> soak_until{};  ///< the wave is over, and the next begins then
  std::uint32_t accepted = 0;        ///< failures that resume has accepted

  friend bool operator==(const RolloutRecord&, const RolloutRecord&) = default;
};

}  // namespace vpatch::rollout
