// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "qmp/channel.h"
#include "qmp/event.h"
#include "qmp/limits.h"

namespace boost::asio {
class any_io_executor;
}

namespace vpatch::qmp {

/// An asynchronous QMP client over a Unix socket. Several commands may be outstanding; replies are
/// matched to them by id.
///
/// Threads: constructed, used and destroyed on the executor's one thread (or strand), before the
/// executor's context goes. Only stop tokens may be triggered from elsewhere.
///
/// Handlers run on the executor, each exactly once (as long as the executor runs), never from
/// inside the call they were given to, and must not throw. They may call any method and may destroy
/// the client.
///
/// A peer that breaks the protocol or a cap loses the connection: outstanding commands fail with
/// that error, later ones with Errc::closed. A client connects once; for another connection, make
/// another.
class Client {
 public:
  using Reply = Result<boost::json::value>;
  using ReplyHandler = std::move_only_function<void(Reply)>;
  /// Given the "QMP" member of the server's greeting.
  using ConnectHandler = std::move_only_function<void(Result<boost::json::object>)>;
  using EventHandler = std::move_only_function<void(Event)>;
  using ClosedHandler = std::move_only_function<void(const Error&)>;

  explicit Client(const boost::asio::any_io_executor& executor, const MessageLimits& limits = {});
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  /// As close().
  ~Client();

  /// Both are set before connecting. Events come in the order of the stream, also between replies.
  void on_event(EventHandler handler);
  /// Told once when the connection ends other than by close() or a failed connect, after every
  /// outstanding command was told.
  void on_closed(ClosedHandler handler);

  /// Connects, awaits the greeting and negotiates (no optional capability is asked for). The
  /// options bound all of it; a failure closes the client.
  void async_connect(const std::string& path, const CallOptions& options, ConnectHandler handler);

  /// The same on a connected socket, whose descriptor the client owns from here on.
  void async_adopt(int fd, const CallOptions& options, ConnectHandler handler);

  /// Sends a command; `handler` gets the reply's "return" value. After a timeout or a cancellation
  /// QEMU may still carry the command out; its late reply is dropped.
  void async_execute(std::string_view command, const boost::json::object& arguments,
                     const CallOptions& options, ReplyHandler handler);

  /// Hangs up; what is outstanding fails with Errc::closed.
  void close();

  /// Connected and negotiated, and not closed since.
  bool is_open() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace vpatch::qmp
