// SPDX-License-Identifier: Apache-2.0
#pragma once

// The bounds of a call under way, on Boost.Asio. Private to the library.

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>

#include "qmp/channel.h"

namespace vpatch::qmp {

/// Watches one call's deadline and stop token. Runs `on_limit` at most once, on the executor and
/// never from inside the constructor, with Errc::timeout or Errc::cancelled; never after it was
/// destroyed. It may be destroyed by its own handler. The stop token may be triggered from any
/// thread; all else happens on the executor's one thread (or strand).
class Deadline {
 public:
  using LimitHandler = std::move_only_function<void(Errc)>;

  Deadline(const boost::asio::any_io_executor& executor, const CallOptions& options,
           LimitHandler on_limit);

 private:
  struct State;
  struct PostCancel {
    boost::asio::any_io_executor executor;
    std::weak_ptr<State> state;
    void operator()() const;
  };

  std::shared_ptr<State> state_;
  std::stop_callback<PostCancel> on_stop_;
};

/// The limit a call has met before it began, if any.
std::optional<Errc> limit_passed(const CallOptions& options);

/// The error for a limit met by `attempted`; `silence` says what did not come, for a timeout.
Error limit_error(std::string_view attempted, Errc limit, const CallOptions& options,
                  std::string_view silence = "no answer");

}  // namespace vpatch::qmp
