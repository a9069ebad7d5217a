// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_summary.h"

#include <algorithm>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch::bench {
namespace {

/// How much above the stock median still counts as no slower: the guest's clock and a shared host
/// are not steadier than that.
constexpr double kNoiseShare = 0.1;
constexpr double kNoiseMs = 1;
constexpr double kPauseBarMs = 10;

std::string shown(const Timing& timing) {
  return fmt::format("{}{:.{}f}", timing.at_least ? ">=" : "", timing.ms, timing.ms < 100 ? 2 : 0);
}

/// "-" where there is none.
std::string shown(const std::optional<Timing>& timing) {
  return timing ? shown(*timing) : "-";
}

bool shorter(const Timing& left, const Timing& right) {
  return left.ms != right.ms ? left.ms < right.ms : left.at_least < right.at_least;
}

std::string shown(const std::vector<Timing>& timings, Timing (*pick)(const std::vector<Timing>&)) {
  return timings.empty() ? "-" : shown(pick(timings));
}

Timing middle(const std::vector<Timing>& timings) {
  return median(timings);
}

std::string row_name(const Row& row) {
  return fmt::format("{} {} {}", row.kernel, row.scenario, to_string(row.direction));
}

Verdict ratio_verdict(const Row& row, const Timing& ratio, double bar) {
  return {fmt::format("{}: ratio {}, bar >= {:g}", row_name(row), shown(ratio), bar),
          ratio.ms >= bar};
}

Verdict pause_verdict(const Row& row) {
  const auto pauses = pauses_of(row.assisted);
  if (row.bars.no_pause) {
    return {fmt::format("{}: {} of {} paused, bar none", row_name(row), pauses.size(),
                        row.assisted.size()),
            pauses.empty()};
  }
  if (pauses.empty()) {
    return {fmt::format("{}: never paused, bar median <= {:g} ms", row_name(row), kPauseBarMs),
            true};
  }
  const Timing pause = median(pauses);
  return {fmt::format("{}: median pause {} ms of the {} of {} paused, bar <= {:g} ms",
                      row_name(row), shown(pause), pauses.size(), row.assisted.size(), kPauseBarMs),
          pause.ms <= kPauseBarMs};
}

boost::json::array json_of(const std::vector<Transition>& transitions) {
  boost::json::array list;
  for (const Transition& one : transitions) {
    list.push_back({{"ms", one.took.ms},
                    {"at_least", one.took.at_least},
                    {"moved_ms", one.moved.ms},
                    {"retries", one.help.retries},
                    {"rescheds", one.help.rescheds},
                    {"signals", one.help.signals},
                    {"switches", one.help.switches},
                    {"pauses", one.help.pauses},
                    {"paused_ms", one.help.paused_ms},
                    {"completing_ms", one.help.completing_ms}});
  }
  return list;
}

}  // namespace

Help& Help::operator+=(const Help& other) {
  retries += other.retries;
  rescheds += other.rescheds;
  signals += other.signals;
  switches += other.switches;
  pauses += other.pauses;
  paused_ms += other.paused_ms;
  completing_ms += other.completing_ms;
  return *this;
}

Timing median(std::vector<Timing> timings) {
  if (timings.empty()) {
    return {};
  }
  std::ranges::sort(timings, shorter);
  const Timing& upper = timings[timings.size() / 2];
  const Timing& lower = timings[(timings.size() - 1) / 2];
  return {(lower.ms + upper.ms) / 2, lower.at_least || upper.at_least};
}

Timing longest(const std::vector<Timing>& timings) {
  return timings.empty() ? Timing{} : *std::ranges::max_element(timings, shorter);
}

std::vector<Timing> timings_of(const std::vector<Transition>& transitions) {
  std::vector<Timing> timings;
  timings.reserve(transitions.size());
  for (const Transition& one : transitions) {
    timings.push_back(one.took);
  }
  return timings;
}

std::vector<Timing> moves_of(const std::vector<Transition>& transitions) {
  std::vector<Timing> timings;
  timings.reserve(transitions.size());
  for (const Transition& one : transitions) {
    timings.push_back(one.moved);
  }
  return timings;
}

std::vector<Timing> pauses_of(const std::vector<Transition>& transitions) {
  std::vector<Timing> pauses;
  for (const Transition& one : transitions) {
    if (one.help.pauses > 0) {
      pauses.push_back({one.help.paused_ms});
    }
  }
  return pauses;
}

Help sum_of(const std::vector<Transition>& transitions) {
  Help sum;
  for (const Transition& one : transitions) {
    sum += one.help;
  }
  return sum;
}

std::optional<Timing> ratio_of(const Row& row) {
  const Timing stock = median(timings_of(row.stock));
  const Timing assisted = median(timings_of(row.assisted));
  if (row.stock.empty() || assisted.ms <= 0) {
    return std::nullopt;
  }
  return Timing{stock.ms / assisted.ms, stock.at_least};
}

std::vector<Verdict> verdicts_of(const Row& row) {
  std::vector<Verdict> verdicts;
  const auto ratio = ratio_of(row);
  if (!ratio) {
    return verdicts;
  }
  if (row.bars.ratio) {
    verdicts.push_back(ratio_verdict(row, *ratio, *row.bars.ratio));
  }
  const auto assisted = timings_of(row.assisted);
  if (row.bars.longest_ms) {
    const Timing most = longest(assisted);
    verdicts.push_back({fmt::format("{}: longest assisted {} ms, bar <= {:g} ms", row_name(row),
                                    shown(most), *row.bars.longest_ms),
                        !most.at_least && most.ms <= *row.bars.longest_ms});
  }
  if (row.bars.no_slower) {
    const double stock = median(timings_of(row.stock)).ms;
    const double bar = stock + std::max(kNoiseMs, stock * kNoiseShare);
    const Timing ours = median(assisted);
    verdicts.push_back({fmt::format("{}: assisted median {} ms, bar <= {:.2f} ms (stock median "
                                    "and 10 % or 1 ms)",
                                    row_name(row), shown(ours), bar),
                        !ours.at_least && ours.ms <= bar});
  }
  verdicts.push_back(pause_verdict(row));
  return verdicts;
}

void print_rows(const std::vector<Row>& rows) {
  constexpr std::string_view kFormat =
      "{:<4} {:<2} {:<10} {:>3} {:>8} {:>8} {:>3} {:>8} {:>8} {:>7} {:>8} {:>8} {:>7} {:>8} "
      "{:>7} {:>8} {:>6} {:>6} {:>6}  {}\n";
  fmt::print("\n{:<18} {:^21} {:^21} {:>7} {:^17} {:^40} {:^13}\n", "", "stock, ms", "assisted, ms",
             "", "tasks moved, ms", "sums of the assisted", "pause, ms");
  fmt::print(kFormat, "", "", "", "n", "median", "max", "n", "median", "max", "ratio", "stock",
             "assisted", "retries", "rescheds", "signals", "switches", "pauses", "median", "max",
             "");
  for (const Row& row : rows) {
    const auto stock = timings_of(row.stock);
    const auto assisted = timings_of(row.assisted);
    const auto stock_moved = moves_of(row.stock);
    const auto moved = moves_of(row.assisted);
    const auto pauses = pauses_of(row.assisted);
    const Help sum = sum_of(row.assisted);
    fmt::print(kFormat, row.kernel, row.scenario, to_string(row.direction), stock.size(),
               shown(stock, middle), shown(stock, longest), assisted.size(),
               shown(assisted, middle), shown(assisted, longest), shown(ratio_of(row)),
               shown(stock_moved, middle), shown(moved, middle), sum.retries, sum.rescheds,
               sum.signals, sum.switches, sum.pauses, shown(pauses, middle), shown(pauses, longest),
               row.note);
  }
}

boost::json::object to_json(const Verdict& verdict) {
  return {{"text", verdict.text}, {"met", verdict.met}};
}

boost::json::object to_json(const Row& row) {
  const auto ratio = ratio_of(row);
  boost::json::array verdicts;
  for (const Verdict& verdict : verdicts_of(row)) {
    verdicts.push_back(to_json(verdict));
  }
  return {{"kernel", row.kernel},
          {"scenario", row.scenario},
          {"direction", std::string(to_string(row.direction))},
          {"stock", json_of(row.stock)},
          {"assisted", json_of(row.assisted)},
          {"ratio", ratio ? boost::json::value(ratio->ms) : boost::json::value()},
          {"ratio_is_a_floor", ratio && ratio->at_least},
          {"bars", std::move(verdicts)},
          {"note", row.note}};
}

}  // namespace vpatch::bench
