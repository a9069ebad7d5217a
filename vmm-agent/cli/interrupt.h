// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

#include "introspect/memory/unique_fd.h"

namespace vpatch {

/// Turns SIGINT, SIGTERM and SIGHUP into a stop token. Make it before any other thread: it blocks
/// these signals, and threads inherit that. A second signal changes nothing: the guest is being put
/// in order.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt() = default;

  std::stop_token token() const { return source_.get_token(); }
  /// How often the user has asked for an end. SIGTERM and SIGHUP, after which nobody asks again,
  /// count twice.
  unsigned count() const { return count_; }

 private:
  void watch(const std::stop_token& done);

  std::stop_source source_;
  std::atomic<unsigned> count_{0};
  introspect::UniqueFd signals_;
  std::jthread thread_;
};

}  // namespace vpatch
