// SPDX-License-Identifier: Apache-2.0
// Times of a rollout: read from texts and from what verbs printed, put in order, and written.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::fleet {

using Microseconds = std::chrono::microseconds;
using Moment = std::chrono::sys_time<Microseconds>;

/// Of the last apply, as far as its report has them.
struct MeasuredTimes {
  std::optional<Microseconds> transition{};  ///< as the host saw it, else by the guest module
  std::optional<Microseconds> pause{};       ///< all pauses together
};

/// The report is a host's: what is no number of at most a week is passed over.
MeasuredTimes times_of(const RolloutDomain& domain);

/// Nearest rank: the least of the values that so many percent are not above. All 0 without values.
struct Quantiles {
  std::size_t count = 0;
  Microseconds p50{0}, p90{0}, p99{0}, max{0};
};
Quantiles quantiles_of(std::vector<Microseconds> values);

/// Of "2026-11-21T09:41:23.000017Z", also without the fraction; nothing when it is no such moment.
std::optional<Moment> parse_utc(std::string_view text);

// "2026-11-21T09:41:23Z"; "2026-11-21 09:41:23"; "09:41:23"
std::string iso_text(Moment moment);
std::string date_and_time(Moment moment);
std::string time_of_day(Moment moment);

/// Its number, or null.
boost::json::value or_null(const std::optional<Microseconds>& time);

/// "0 ms", "0.42 ms", "12.3 ms", "1.24 s": three digits that count.
std::string short_time(Microseconds time);
/// "12s", "4m 12s", "1h 03m", "2d 04h". Negative ones are "0s".
std::string elapsed_text(std::chrono::seconds time);

}  // namespace vpatch::fleet
