// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <chrono>
#include <optional>
#include <string>

#include "vmm-agent/error.h"

namespace vpatch::rollout {

using Time = std::chrono::sys_seconds;

/// When something new may be started, by the wall clock of a time zone: on these weekdays from
/// `from` to `to` (past midnight when `to` is not later), but nothing in the last `cutoff` of it.
///
/// Where the clock is put forward, a `from` or `to` that it skips is the moment of the change: a
/// window that lies in the gap is left out that day. Where it is put back, a `from` that it shows
/// twice is the second, and a `to` the first; both are the first when it shows both twice. So the
/// clock never shows a time outside of the window while that is open.
struct MaintenanceWindow {
  std::bitset<7> days;                  ///< of the beginning; 0 is Sunday
  std::chrono::minutes from{0}, to{0};  ///< since midnight, below 24 hours
  std::chrono::minutes cutoff{0};       ///< of time that passes, not of the clock
  std::string zone = "UTC";             ///< of the IANA database

  /// From `from` to `to` on a day without a change of the clock: up to 24 hours.
  std::chrono::minutes length() const;
  /// Whether something new may be started at `now`. Never where check_zone() fails.
  bool open(Time now) const;
  /// The next moment from `now` on at which open() is true. Nothing when there is none in the next
  /// four weeks: no weekday, or a cutoff as long as the window.
  std::optional<Time> next_opening(Time now) const;

  friend bool operator==(const MaintenanceWindow&, const MaintenanceWindow&) = default;
};

/// Whether the zone is in the system's database (Debian package tzdata). Outcome::usage.
Result<void> check_zone(const std::string& zone);

}  // namespace vpatch::rollout
