// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/fake_clock.h"

#include <stdexcept>
#include <utility>

namespace vpatch {
namespace {

constexpr std::chrono::hours kLongestOperation{4};

}  // namespace

void FakeClock::schedule(milliseconds delay, std::function<void()> action) {
  if (delay <= milliseconds(0)) {
    action();
    return;
  }
  due_.emplace(now_ + delay, std::move(action));
}

FakeClock::milliseconds FakeClock::elapsed() const {
  return std::chrono::duration_cast<milliseconds>(now_.time_since_epoch());
}

void FakeClock::pass(milliseconds duration, const std::stop_token& stop) {
  const TimePoint end = now_ + duration;
  while (!stop.stop_requested() && !due_.empty() && due_.begin()->first <= end) {
    auto next = due_.extract(due_.begin());
    now_ = next.key();
    next.mapped()();
  }
  if (!stop.stop_requested()) {
    now_ = end;
  }
  if (elapsed() > kLongestOperation) {
    throw std::runtime_error("the operation does not end");
  }
}

}  // namespace vpatch
