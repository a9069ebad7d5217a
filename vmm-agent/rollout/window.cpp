// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/window.h"

#include <algorithm>
#include <exception>

#include <date/tz.h>
#include <fmt/format.h>

#include "vmm-agent/patch/modinfo.h"

namespace vpatch::rollout {
namespace {

struct Interval {
  Time begin, end;
};

/// Where the clock skips `local`: the moment of the change. Where it shows it twice: the first.
Time first_moment(date::local_seconds local, const date::local_info& info) {
  if (info.result == date::local_info::nonexistent) {
    return info.second.begin;
  }
  return Time(local.time_since_epoch() - info.first.offset);
}

/// The window that begins on `day`; empty where the clock skips all of it.
Interval interval_on(const MaintenanceWindow& window, const date::time_zone& zone,
                     date::local_days day) {
  const date::local_seconds from = day + window.from;
  const date::local_seconds to = from + window.length();
  const date::local_info at_from = zone.get_info(from);
  const date::local_info at_to = zone.get_info(to);
  Interval interval{first_moment(from, at_from), first_moment(to, at_to)};
  const Time change = at_from.first.end;
  if (at_from.result == date::local_info::ambiguous && interval.end >= change) {
    interval.begin = Time(from.time_since_epoch() - at_from.second.offset);
  }
  return interval;
}

/// The first open moment from `now` on, of the windows that begin up to `days` days after today.
std::optional<Time> first_opening(const MaintenanceWindow& window, Time now, int days) {
  const date::time_zone& zone = *date::locate_zone(window.zone);
  const auto today = date::floor<date::days>(zone.to_local(now));
  // Yesterday's may last until today.
  for (auto day = today - date::days(1); day <= today + date::days(days); day += date::days(1)) {
    if (!window.days[date::weekday(day).c_encoding()]) {
      continue;
    }
    const auto [begin, end] = interval_on(window, zone, day);
    const Time moment = std::max(begin, now);
    if (moment < end - window.cutoff) {
      return moment;
    }
  }
  return std::nullopt;
}

}  // namespace

std::chrono::minutes MaintenanceWindow::length() const {
  return from < to ? to - from : to - from + std::chrono::hours(24);
}

bool MaintenanceWindow::open(Time now) const {
  try {
    return first_opening(*this, now, 0) == now;
  } catch (const std::exception&) {
    return false;  // the database has lost the zone
  }
}

std::optional<Time> MaintenanceWindow::next_opening(Time now) const {
  constexpr int kFourWeeks = 28;  // a change of the clock may leave out a weekly window
  try {
    return first_opening(*this, now, kFourWeeks);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

Result<void> check_zone(const std::string& zone) {
  const auto unknown = [&](std::string_view why) {
    return fail(Outcome::usage, fmt::format("{} is not a time zone of this host's database{}",
                                            displayable(zone), why));
  };
  if (zone == "localtime") {
    return unknown(": it is another one on another host");
  }
  try {
    // Reads the zone's file, which may be damaged.
    date::locate_zone(zone)->get_info(Time{});
  } catch (const std::exception&) {
    return unknown(", such as UTC or Europe/Berlin");
  }
  return {};
}

}  // namespace vpatch::rollout
