// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "tests/bench/transition_log.h"

namespace vpatch::bench {

/// A duration in milliseconds, or, of what was given up, what it took at least.
struct Timing {
  double ms = 0;
  bool at_least = false;
};

/// What vpatch did for one transition, or for several together.
struct Help {
  std::uint64_t retries = 0, rescheds = 0, signals = 0, switches = 0, pauses = 0;
  double paused_ms = 0;      ///< all pauses together
  double completing_ms = 0;  ///< from the last task moved to the end

  Help& operator+=(const Help& other);
};

struct Transition {
  Timing took{};   ///< by the guest's log
  Timing moved{};  ///< until all tasks had moved, as the host saw it
  Help help{};
};

/// What is promised of one row.
struct Bars {
  std::optional<double> ratio{};       ///< of the medians, stock to assisted, at least
  std::optional<double> longest_ms{};  ///< of the assisted ones, at most
  bool no_slower = false;              ///< the assisted median is not above the stock one
  bool no_pause = false;               ///< not one pause; else the median of those paused is held
};

/// All transitions of one scenario in one direction.
struct Row {
  std::string kernel, scenario;
  Direction direction = Direction::patching;
  std::vector<Transition> stock{}, assisted{};
  Bars bars{};
  std::string note{};
};

struct Verdict {
  std::string text;
  bool met = false;
};

/// The mean of the two in the middle where their number is even; "at least" if any of these is.
Timing median(std::vector<Timing> timings);
Timing longest(const std::vector<Timing>& timings);
std::vector<Timing> timings_of(const std::vector<Transition>& transitions);
std::vector<Timing> moves_of(const std::vector<Transition>& transitions);
/// The pauses of those transitions in which there was one, in milliseconds for each transition.
std::vector<Timing> pauses_of(const std::vector<Transition>& transitions);
Help sum_of(const std::vector<Transition>& transitions);

/// Medians, stock to assisted: "at least" when the stock one is. Nothing where a side is missing.
std::optional<Timing> ratio_of(const Row& row);

/// Of a row whose sides both have figures; empty otherwise.
std::vector<Verdict> verdicts_of(const Row& row);

void print_rows(const std::vector<Row>& rows);
boost::json::object to_json(const Verdict& verdict);
boost::json::object to_json(const Row& row);

}  // namespace vpatch::bench
