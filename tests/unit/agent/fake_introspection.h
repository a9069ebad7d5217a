// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Answers what it is told to, and keeps what it was asked.
class FakeIntrospection final : public Introspection {
 public:
  std::deque<Forecast> next_forecasts;  ///< these first, then always:
  Result<Forecast> next_forecast = Forecast{.tasks = 60};
  Result<GuestMark> next_mark = GuestMark{};
  Result<std::vector<std::string>> next_problems = std::vector<std::string>{};
  std::vector<std::string> calls;

  Result<Forecast> forecast(const LivepatchFile&, const qmp::CallOptions&) override {
    calls.emplace_back("forecast");
    if (!next_forecasts.empty()) {
      Forecast forecast = std::move(next_forecasts.front());
      next_forecasts.pop_front();
      return forecast;
    }
    return next_forecast;
  }
  Result<GuestMark> mark(const qmp::CallOptions&) override {
    calls.emplace_back("mark");
    return next_mark;
  }
  Result<std::vector<std::string>> problems(const LivepatchFile&, const GuestMark&,
                                            const qmp::CallOptions&) override {
    calls.emplace_back("problems");
    return next_problems;
  }
};

}  // namespace vpatch
