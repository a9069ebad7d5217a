// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tests/bench/transition_summary.h"

namespace vpatch::bench {

/// What a guest does while it is patched, and what is promised of that.
struct Scenario {
  std::string id;
  std::string patch;         ///< module that is applied and reverted
  std::string base{};        ///< module that is in force before, for the patch to replace
  std::string load{};        ///< arguments of guest_load; empty: none
  std::string begin{};       ///< shell commands in the guest before each patching
  std::string turn{};        ///< and before each unpatching
  std::string let_go{};      ///< ends what begin and turn have started
  bool stock_waits = false;  ///< the stock kernel needs many seconds: fewer rounds for it
  bool stalls = false;       ///< nobody can end it: other steps, see TransitionGuest::stall()
  /// How long the stock kernel is given.
  std::chrono::seconds limit{60};
  std::vector<std::string> assist{};  ///< flags of the assisted side
  Bars patching{}, unpatching{};
  std::string note{}, unpatching_note{};
};

/// All of them, in the order of their names.
std::vector<Scenario> scenarios_of(const std::string& kernel);

}  // namespace vpatch::bench
