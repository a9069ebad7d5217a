// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "qmp/channel.h"

namespace vpatch::qmp {

/// Bounds that only a test that hangs will meet.
inline const CallOptions kPatient{.timeout = std::chrono::seconds(60), .stop = {}};
/// Bounds for a test of what happens after them.
inline const CallOptions kHasty{.timeout = std::chrono::milliseconds(20), .stop = {}};

inline constexpr std::string_view kGreeting =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": "
    "\"\"}, "
    "\"capabilities\": [\"oob\"]}}\r\n";

/// The other end of a socket, played by the test with plain blocking calls. A read that waits too
/// long ends as if the other end had hung up.
class FakePeer {
 public:
  explicit FakePeer(int fd);
  FakePeer(FakePeer&& other) noexcept;
  FakePeer& operator=(FakePeer&&) = delete;
  ~FakePeer();

  void send(std::string_view bytes);
  /// Many small pieces.
  void send_bytewise(std::string_view bytes);
  /// A line without its end; empty when the other end hung up.
  std::string read_line();
  /// A line as JSON. A sentinel in front of it (0xFF) is dropped.
  boost::json::object read_command();
  void hang_up();

  // QMP
  void greet();
  /// Answers the next command, which must be `command`, with `returned` as JSON text.
  void answer(std::string_view command, std::string_view returned = "{}");
  void reply(const boost::json::value& id, std::string_view returned = "{}");

  // Guest agent
  /// Answers the next line, which must be a synchronisation, after sending `stale`.
  void synchronise(std::string_view stale = "");

 private:
  int fd_;
  std::string in_;
};

/// A connected pair: `ours` goes to the code under test, which takes it over.
struct Connection {
  Connection();
  int ours = -1;
  FakePeer peer;

 private:
  explicit Connection(std::pair<int, int> fds);
};

/// A listening Unix socket in a directory of its own.
class Listener {
 public:
  explicit Listener(int backlog = 8);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  FakePeer accept();
  bool has_waiting() const;
  /// Connects until the queue takes no more.
  void fill_queue();
  /// Accepts and hangs up on what fill_queue() connected.
  void empty_queue();

 private:
  std::string directory_;
  std::string path_;
  int fd_;
  std::vector<int> fillers_;
};

/// Plays a peer in a thread of its own while the test makes blocking calls; joined at its end.
using Script = std::jthread;

}  // namespace vpatch::qmp
