// SPDX-License-Identifier: Apache-2.0
// What ServeSession allows a host. Private to it.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "vmm-agent/rollout/plan.h"

namespace vpatch::fleet {

/// Ends the work of a lost connection.
struct ConnectionGone {};

/// Livepatches in force in one domain that a rollback puts back.
inline constexpr std::size_t kMostFormer = 16;
/// Registrations of one domain that are looked at.
inline constexpr std::size_t kMostRegistered = 256;
/// Bytes of a name from a host in a message.
inline constexpr std::size_t kLongestShown = 128;

/// For one request. Those that change a guest are cancelled by the engine, in time; this is for a
/// host that answers heartbeats only.
inline std::chrono::milliseconds limit_of(std::string_view method, const rollout::Plan& plan) {
  using std::chrono::minutes;
  std::chrono::seconds limit = minutes(2);
  if (method == "apply" || method == "revert") {
    limit = plan.limits.per_domain + minutes(20);
  } else if (method == "health") {
    for (const rollout::HealthCommand& check : plan.checks) {
      limit = std::max(limit, check.timeout + minutes(2));
    }
  }
  return limit;
}

/// Whether a word of a plan's apply options is one of `vpatch revert` too.
inline bool is_option_of_revert(std::string_view word) {
  constexpr std::array<std::string_view, 8> kNames = {
      "--timeout",      "--on-stall",     "--grace",     "--assist",
      "--signal-after", "--switch-after", "--max-pause", "--require-signed"};
  for (const std::string_view name : kNames) {
    if (word.substr(0, word.find('=')) == name) {
      return true;
    }
  }
  return false;
}

}  // namespace vpatch::fleet
