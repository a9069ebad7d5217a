// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>

#include "vmm-agent/operation/context.h"

namespace vpatch {

/// Time that passes only when somebody waits or a call takes its while. Throws when an operation
/// goes on for hours, so that an endless loop is a failed test and not a hanging one.
class FakeClock final : public Clock {
 public:
  using milliseconds = std::chrono::milliseconds;

  TimePoint now() override { return now_; }
  /// Returns at once, with the time gone by and all that was due done; early when that triggers
  /// `stop`.
  void wait(milliseconds duration, const std::stop_token& stop) override { pass(duration, stop); }

  void advance(milliseconds duration) { pass(duration, {}); }
  /// Calls `action` when `delay` has gone by; at once when that is nothing.
  void schedule(milliseconds delay, std::function<void()> action);
  milliseconds elapsed() const;

 private:
  void pass(milliseconds duration, const std::stop_token& stop);

  TimePoint now_;
  std::multimap<TimePoint, std::function<void()>> due_;
};

}  // namespace vpatch
