// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/moment.h"

#include <charconv>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "vmm-agent/duration.h"

namespace vpatch {
namespace {

using namespace std::chrono;

/// The digits that make up all of `text`.
std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const char* const end = std::to_address(text.end());
  const auto [rest, error] = std::from_chars(std::to_address(text.begin()), end, value);
  return error == std::errc() && rest == end && text.front() >= '0' && text.front() <= '9'
             ? std::optional(value)
             : std::nullopt;
}

std::optional<sys_days> read_date(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') {
    return std::nullopt;
  }
  const auto y = number(text.substr(0, 4));
  const auto m = number(text.substr(5, 2));
  const auto d = number(text.substr(8, 2));
  if (!y || !m || !d) {
    return std::nullopt;
  }
  const year_month_day date(year(static_cast<int>(*y)), month(*m), day(*d));
  return date.ok() ? std::optional(sys_days(date)) : std::nullopt;
}

/// "09:41" or "09:41:23".
std::optional<seconds> read_time(std::string_view text) {
  const bool with_seconds = text.size() == 8;
  if ((text.size() != 5 && !with_seconds) || text[2] != ':' || (with_seconds && text[5] != ':')) {
    return std::nullopt;
  }
  const auto h = number(text.substr(0, 2));
  const auto m = number(text.substr(3, 2));
  const auto s = with_seconds ? number(text.substr(6, 2)) : std::optional(0U);
  if (!h || !m || !s || *h > 23 || *m > 59 || *s > 59) {
    return std::nullopt;
  }
  return hours(*h) + minutes(*m) + seconds(*s);
}

std::optional<sys_seconds> read_moment(std::string_view text) {
  if (text.ends_with('Z')) {
    text.remove_suffix(1);
  }
  const auto date = read_date(text.substr(0, 10));
  if (!date || text.size() == 10) {
    return date ? std::optional<sys_seconds>(*date) : std::nullopt;
  }
  const auto time = text[10] == 'T' || text[10] == ' ' ? read_time(text.substr(11)) : std::nullopt;
  return time ? std::optional(*date + *time) : std::nullopt;
}

std::optional<milliseconds> read_ago(std::string_view text) {
  constexpr unsigned kMostDays = 36'500;
  if (text.ends_with('d')) {
    const auto count = text.size() > 1 ? number(text.substr(0, text.size() - 1)) : std::nullopt;
    return count && *count <= kMostDays ? std::optional<milliseconds>(days(*count)) : std::nullopt;
  }
  if (text.empty() || (text.back() >= '0' && text.back() <= '9')) {
    return std::nullopt;  // a year alone is no number of seconds
  }
  const auto duration = parse_duration(text, milliseconds(0), days(kMostDays));
  return duration ? std::optional(*duration) : std::nullopt;
}

std::string text_of(sys_time<milliseconds> moment) {
  const auto day = floor<days>(moment);
  const year_month_day date(day);
  const hh_mm_ss time(moment - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     time.hours().count(), time.minutes().count(), time.seconds().count(),
                     time.subseconds().count());
}

}  // namespace

Result<std::string> parse_moment(std::string_view text, system_clock::time_point now) {
  if (const auto moment = read_moment(text)) {
    return text_of(*moment);
  }
  if (const auto ago = read_ago(text)) {
    return text_of(floor<milliseconds>(now) - *ago);
  }
  return fail(
      Outcome::usage,
      fmt::format("{} is neither a time in UTC, such as 2026-11-21 or 2026-11-21T09:41, nor "
                  "so long ago, such as 2h or 7d",
                  text.empty() ? "an empty text" : text));
}

}  // namespace vpatch
