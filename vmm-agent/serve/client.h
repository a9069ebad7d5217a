// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/error.h"

namespace boost::asio {
class any_io_executor;
}

namespace vpatch::serve {

struct ClientOptions {
  std::string vpatch{};  ///< version of vpatch, for `hello`
  /// From the start of the command to the answer to `hello`: ssh may have to connect first.
  std::chrono::milliseconds greeting{30'000};
  /// Without a byte for so long the peer is dead or hung: three of its heartbeats.
  std::chrono::milliseconds silence{15'000};
};

/// The driver's end of one connection to `vpatch serve --stdio`, which it has started as a command:
/// `vpatch serve --stdio`, or `ssh HOST vpatch serve --stdio`. docs/serve.md has the requests. What
/// the peer says is checked, capped, and printable when it is given on.
///
/// Threads: constructed, used and destroyed on the executor's one thread. Handlers run on it, never
/// from inside the call they were given to, and must not throw. They may call any method and may
/// destroy the client. Ignores SIGPIPE from connect() on.
class Client {
 public:
  /// The answer's result. An error's outcome says what may have become of the guest:
  /// Outcome::refused: nothing was begun (the server says why); Outcome::unreachable (the peer is
  /// lost, or the deadline has passed) and Outcome::failed_needs_look (the process died that did
  /// the work): anything, the guest must be looked at.
  using Reply = Result<boost::json::object>;
  using ReplyHandler = std::move_only_function<void(Reply)>;

  struct Progress {
    std::int64_t request = 0;
    std::string kind;  ///< "step", "warning" or "progress"
    std::string text;
  };

  /// What comes by itself; each may be left out.
  struct Handlers {
    std::function<void(const std::string& vpatch)> connected;  ///< with the server's version
    std::function<void(const Progress&)> progress;
    /// The peer is dead, hung, has hung up or broken the protocol; or could not be started or
    /// greeted. Once for each connect(), after each outstanding call was told; not after close().
    std::function<void(const Error&)> lost;
  };

  Client(const boost::asio::any_io_executor& executor, std::vector<std::string> command,
         ClientOptions options, Handlers handlers);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  /// As close().
  ~Client();

  /// Starts the command and greets the server. Nothing happens while there is a connection; after
  /// `lost` or close() this is another one, which knows nothing of requests and files of the
  /// former.
  void connect();
  bool is_connected() const;

  /// Sends a request and returns its id; 0 when there is no connection, which the handler is told.
  /// `handler` is called exactly once. At the deadline the server is asked to cancel it, and what
  /// comes of that is not told any more: a caller that wants to know cancels first.
  std::int64_t call(std::string_view method, boost::json::object params,
                    std::chrono::milliseconds timeout, ReplyHandler handler);

  /// Has the server interrupt a request, which is still answered when it has ended.
  void cancel(std::int64_t request);

  /// Ends the server's input: it interrupts all its work and waits for it. Calls outstanding fail
  /// with Outcome::unreachable.
  void close();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace vpatch::serve
