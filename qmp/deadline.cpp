// SPDX-License-Identifier: Apache-2.0
#include "qmp/deadline.h"

#include <algorithm>
#include <utility>

#include <boost/asio/steady_timer.hpp>
#include <fmt/format.h>

#include "qmp/executor.h"

namespace vpatch::qmp {
namespace {

// Keeps now() + timeout inside the clock's range whatever the caller asks for.
constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);

}  // namespace

struct Deadline::State {
  State(const boost::asio::any_io_executor& executor, LimitHandler handler)
      : timer(executor), on_limit(std::move(handler)) {}

  void fire(Errc limit) {
    if (LimitHandler handler = std::exchange(on_limit, nullptr)) {
      handler(limit);
    }
  }

  boost::asio::steady_timer timer;
  LimitHandler on_limit;
};

void Deadline::PostCancel::operator()() const {
  run_later(executor, [weak = state] {
    if (const auto alive = weak.lock()) {
      alive->fire(Errc::cancelled);
    }
  });
}

Deadline::Deadline(const boost::asio::any_io_executor& executor, const CallOptions& options,
                   LimitHandler on_limit)
    : state_(std::make_shared<State>(executor, std::move(on_limit))),
      on_stop_(options.stop, PostCancel{executor, state_}) {
  state_->timer.expires_after(std::clamp(options.timeout, std::chrono::milliseconds(0), kLongest));
  state_->timer.async_wait([weak = std::weak_ptr(state_)](const boost::system::error_code& ec) {
    const auto alive = ec ? nullptr : weak.lock();
    if (alive) {
      alive->fire(Errc::timeout);
    }
  });
}

std::optional<Errc> limit_passed(const CallOptions& options) {
  if (options.stop.stop_requested()) {
    return Errc::cancelled;
  }
  if (options.timeout <= std::chrono::milliseconds(0)) {
    return Errc::timeout;
  }
  return std::nullopt;
}

Error limit_error(std::string_view attempted, Errc limit, const CallOptions& options,
                  std::string_view silence) {
  if (limit == Errc::cancelled) {
    return {.code = limit, .what = fmt::format("{}: cancelled", attempted)};
  }
  return {.code = limit,
          .what = fmt::format("{}: {} within {} ms", attempted, silence, options.timeout.count())};
}

}  // namespace vpatch::qmp
