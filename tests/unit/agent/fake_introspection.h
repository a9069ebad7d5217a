// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Answers what it is told to, and keeps what it was asked.
class FakeIntrospection final : public Introspection {
 public:
  std::deque<Forecast> next_forecasts;  ///< these first, then always:
  GuestFacts next_facts;
  Result<Forecast> next_forecast = Forecast{.tasks = 60};
  Result<GuestMark> next_mark = GuestMark{};
  Result<std::vector<std::string>> next_problems = std::vector<std::string>{};
  Result<Leftovers> next_leftovers = Leftovers{};
  Result<std::vector<ForcedPatch>> next_forced = std::vector<ForcedPatch>{};
  Result<std::vector<introspect::ForbiddenFunction>> next_located =
      std::vector<introspect::ForbiddenFunction>{{"vmlinux", "f", {}}};
  std::deque<Forecast> next_occupants;  ///< these first, then nobody
  Result<PendingTasks> next_pending = PendingTasks{};
  std::vector<std::string> calls;

  GuestFacts facts(const LivepatchFile&, const qmp::CallOptions&) override {
    calls.emplace_back("facts");
    return next_facts;
  }
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
  Result<std::vector<std::string>> problems(const std::string&, const GuestMark&,
                                            const qmp::CallOptions&) override {
    calls.emplace_back("problems");
    return next_problems;
  }
  Result<Leftovers> leftovers(const std::vector<std::string>& gone,
                              const std::vector<std::string>& unloaded, const GuestMark&,
                              const qmp::CallOptions&) override {
    calls.push_back(fmt::format("leftovers of {}, unloaded {}", fmt::join(gone, " "),
                                fmt::join(unloaded, " ")));
    return next_leftovers;
  }
  /// Not among the calls: it is asked for in many places.
  Result<std::vector<ForcedPatch>> forced(const qmp::CallOptions&) override { return next_forced; }
  Result<std::vector<introspect::ForbiddenFunction>> locate(const std::vector<std::string>&,
                                                            const qmp::CallOptions&) override {
    calls.emplace_back("locate");
    return next_located;
  }
  Result<Forecast> occupants(const std::vector<introspect::ForbiddenFunction>&,
                             const qmp::CallOptions&) override {
    calls.emplace_back("occupants");
    if (next_occupants.empty()) {
      return Forecast{.tasks = 60};
    }
    Forecast forecast = std::move(next_occupants.front());
    next_occupants.pop_front();
    return forecast;
  }
  Result<PendingTasks> pending(const qmp::CallOptions&) override {
    calls.emplace_back("pending");
    return next_pending;
  }
};

}  // namespace vpatch
