// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/duration.h"

#include <array>
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

namespace vpatch {
namespace {

using std::chrono::milliseconds;

struct Unit {
  std::string_view name;
  std::int64_t in_ms;
};

constexpr std::array kUnits = {Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1000},
                               Unit{"ms", 1}};

/// Milliseconds; nothing when the text is no duration.
std::optional<double> read(std::string_view text) {
  double number = 0;
  const char* const end = std::to_address(text.end());
  const auto [rest, error] =
      std::from_chars(std::to_address(text.begin()), end, number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number)) {
    return std::nullopt;
  }
  const std::string_view unit = rest == end ? "s" : std::string_view(rest, end);
  for (const Unit& known : kUnits) {
    if (unit == known.name) {
      return number * static_cast<double>(known.in_ms);
    }
  }
  return std::nullopt;
}

}  // namespace

Result<milliseconds> parse_duration(std::string_view text, milliseconds least, milliseconds most) {
  const auto ms = read(text);
  if (!ms) {
    return fail(Outcome::usage, fmt::format("{} is not a duration, such as 20ms, 1.5s, 2m or 1h",
                                            text.empty() ? "an empty text" : text));
  }
  if (*ms < static_cast<double>(least.count()) || *ms > static_cast<double>(most.count())) {
    return fail(Outcome::usage, fmt::format("{} is not from {} to {}", text, format_duration(least),
                                            format_duration(most)));
  }
  // 0.29 s is 289.99... ms in binary.
  constexpr double kRounding = 1e-6;
  return milliseconds(static_cast<std::int64_t>(*ms + kRounding));
}

std::string format_duration(milliseconds duration) {
  for (const Unit& unit : kUnits) {
    if (duration.count() != 0 && duration.count() % unit.in_ms == 0) {
      return fmt::format("{}{}", duration.count() / unit.in_ms, unit.name);
    }
  }
  return "0s";
}

}  // namespace vpatch
