// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "qmp/client.h"

namespace vpatch::qmp {

/// What a handler was told, and how often.
template <class T>
struct Told {
  int calls = 0;
  Result<T> result = std::unexpected(Error{.what = "the handler was not called"});

  auto handler() {
    return [this](Result<T> outcome) {
      ++calls;
      result = std::move(outcome);
    };
  }
  bool came() const { return calls > 0; }
  bool succeeded() const { return result.has_value(); }
  const T& value() const { return result.value(); }
  std::optional<Errc> code() const {
    return came() && !result ? std::optional(result.error().code) : std::nullopt;
  }
  std::string what() const { return result ? "" : result.error().what; }
};

using Answer = Told<boost::json::value>;

/// A client and its peer in one thread: the peer's blocking calls and the client's loop take turns.
class ClientTest : public testing::Test {
 protected:
  template <class Done>
  void run_until(Done done) {
    while (!done()) {
      io_.restart();
      ASSERT_NE(io_.run_one_for(std::chrono::seconds(60)), 0U) << "nothing happens any more";
    }
  }
  void run_until(const Answer& answer) {
    run_until([&answer] { return answer.came(); });
  }
  /// Runs all that is ready now.
  void drain() {
    io_.restart();
    io_.poll();
  }

  void make_client(const MessageLimits& limits = {}) {
    client_ = std::make_unique<Client>(io_.get_executor(), limits);
    client_->on_event([this](Event event) { events_.push_back(std::move(event)); });
    client_->on_closed([this](const Error& error) { closed_.push_back(error); });
  }
  /// Adopts our end and leaves the handshake to the test.
  void begin(const CallOptions& options = kPatient, const MessageLimits& limits = {}) {
    make_client(limits);
    client_->async_adopt(connection_.ours, options, connected_.handler());
  }
  void run_until_connected() {
    run_until([this] { return connected_.came(); });
  }
  void open(const MessageLimits& limits = {}) {
    begin(kPatient, limits);
    peer().send(kGreeting);
    drain();  // the client reads the greeting and answers it
    peer().answer("qmp_capabilities");
    run_until_connected();
    ASSERT_TRUE(connected_.succeeded()) << connected_.what();
  }
  void execute(std::string_view command, Answer& answer, const CallOptions& options = kPatient) {
    client_->async_execute(command, {}, options, answer.handler());
  }
  FakePeer& peer() { return connection_.peer; }

  boost::asio::io_context io_;
  Connection connection_;
  std::unique_ptr<Client> client_;
  std::vector<Event> events_;
  std::vector<Error> closed_;
  Told<boost::json::object> connected_;
};

}  // namespace vpatch::qmp
