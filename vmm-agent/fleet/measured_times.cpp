// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/measured_times.h"

#include <algorithm>
#include <charconv>

#include <boost/json.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

std::optional<Microseconds> time_in(const json::object& object, std::string_view key) {
  constexpr std::int64_t kLongest = Microseconds(days(7)).count();
  const json::value* value = object.if_contains(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  boost::system::error_code error;
  const auto number = value->is_number() ? value->to_number<std::int64_t>(error) : -1;
  return !error && number >= 0 && number <= kLongest ? std::optional(Microseconds(number))
                                                     : std::nullopt;
}

/// The digits of `text` from `at`, or -1.
int digits(std::string_view text, std::size_t at, std::size_t count) {
  const std::string_view part = text.substr(at, count);
  int number = -1;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
  return error == std::errc() && end == part.data() + part.size() && number >= 0 ? number : -1;
}

}  // namespace

MeasuredTimes times_of(const RolloutDomain& domain) {
  MeasuredTimes times;
  if (!domain.apply_report) {
    return times;
  }
  const json::value* transition = domain.apply_report->if_contains("transition");
  if (transition != nullptr && transition->is_object()) {
    const json::object& seen = transition->get_object();
    times.transition = time_in(seen, "lasted_us");
    times.pause = time_in(seen, "paused_us");
  }
  if (!times.transition) {
    times.transition = time_in(*domain.apply_report, "transition_us");
  }
  return times;
}

Quantiles quantiles_of(std::vector<Microseconds> values) {
  if (values.empty()) {
    return {};
  }
  std::ranges::sort(values);
  const auto at = [&values](std::size_t percent) {
    return values[(values.size() * percent + 99) / 100 - 1];
  };
  return {values.size(), at(50), at(90), at(99), values.back()};
}

std::optional<Moment> parse_utc(std::string_view text) {
  constexpr std::size_t kWhole = std::string_view("2026-11-21T09:41:23").size();
  if (text.size() < kWhole + 1 || text.back() != 'Z' || text[4] != '-' || text[7] != '-' ||
      text[10] != 'T' || text[13] != ':' || text[16] != ':') {
    return std::nullopt;
  }
  const int year = digits(text, 0, 4);
  const int month = digits(text, 5, 2);
  const int day = digits(text, 8, 2);
  const int hour = digits(text, 11, 2);
  const int minute = digits(text, 14, 2);
  const int second = digits(text, 17, 2);
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  int fraction = 0;
  if (const std::string_view rest = text.substr(kWhole, text.size() - kWhole - 1); !rest.empty()) {
    fraction = rest.size() == 7 && rest[0] == '.' ? digits(rest, 1, 6) : -1;
  }
  if (year < 0 || month < 0 || day < 0 || !date.ok() || hour < 0 || hour > 23 || minute < 0 ||
      minute > 59 || second < 0 || second > 60 || fraction < 0) {
    return std::nullopt;
  }
  return std::chrono::sys_days(date) + hours(hour) + minutes(minute) + seconds(second) +
         Microseconds(fraction);
}

std::string iso_text(Moment moment) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", std::chrono::floor<seconds>(moment));
}

std::string date_and_time(Moment moment) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", std::chrono::floor<seconds>(moment));
}

std::string time_of_day(Moment moment) {
  return fmt::format("{:%H:%M:%S}", std::chrono::floor<seconds>(moment));
}

std::string short_time(Microseconds time) {
  if (time == Microseconds(0)) {
    return "0 ms";
  }
  const double ms = static_cast<double>(time.count()) / 1000;
  if (ms < 100) {
    return fmt::format("{:.{}f} ms", ms, ms < 9.995 ? 2 : 1);
  }
  if (ms < 999.5) {
    return fmt::format("{:.0f} ms", ms);
  }
  return fmt::format("{:.{}f} s", ms / 1000, ms < 9995 ? 2 : 1);
}

json::value or_null(const std::optional<Microseconds>& time) {
  return time ? json::value(time->count()) : json::value(nullptr);
}

std::string elapsed_text(seconds time) {
  const auto whole = std::max<std::int64_t>(time.count(), 0);
  if (whole < 60) {
    return fmt::format("{}s", whole);
  }
  if (whole < 3600) {
    return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  }
  if (whole < 86400) {
    return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
  }
  return fmt::format("{}d {:02}h", whole / 86400, whole / 3600 % 24);
}

}  // namespace vpatch::fleet
