// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "vmm-agent/error.h"
#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/stream.h"

namespace vpatch::exporter {

/// A process that looks at something, prints it and ends; what goes wrong in it harms nobody else.
/// It is killed at its limit and when it prints too much: only for verbs that change nothing. Used
/// on the executor's one thread.
class LookProcess : public std::enable_shared_from_this<LookProcess> {
 public:
  static constexpr std::size_t kMaxOutput = std::size_t{4} << 20;

  struct Handlers {
    /// Once: what it printed, at the limit at the latest. Outcome::unreachable: it ended with one
    /// of vpatch's own exit codes for a failure; Outcome::internal: it hung, died or printed too
    /// much.
    std::function<void(Result<std::string>)> answered;
    /// Once, later: the process is gone. One that the kernel holds up may stay long after the
    /// limit.
    std::function<void()> ended;
  };

  /// No handler is called when it cannot be started.
  static Result<std::shared_ptr<LookProcess>> start(const boost::asio::any_io_executor& executor,
                                                    const std::string& program,
                                                    std::vector<std::string> words,
                                                    std::chrono::milliseconds limit,
                                                    Handlers handlers);

  LookProcess(const boost::asio::any_io_executor& executor, Handlers handlers)
      : timer_(executor), handlers_(std::move(handlers)) {}

  /// No handler is called any more.
  void abandon();

 private:
  void take(std::string_view bytes);
  void give_up(const std::string& why);
  void child_ended(serve::ChildEnd how);
  void answer(Result<std::string> result);

  boost::asio::steady_timer timer_;
  Handlers handlers_;
  std::shared_ptr<serve::ChildProcess> child_;
  std::shared_ptr<serve::Reader> output_;
  std::shared_ptr<serve::Reader> errors_;
  std::string text_;
};

}  // namespace vpatch::exporter
