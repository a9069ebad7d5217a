// SPDX-License-Identifier: Apache-2.0
#pragma once

// Lines over a Unix socket, on Boost.Asio. Private to the library.

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "qmp/error.h"

namespace vpatch::qmp {

/// A connected Unix socket that is read as lines under a cap, and written without blocking. Used
/// from its executor's one thread (or strand) only, and owned by shared_ptr: pending operations
/// keep it alive until close().
///
/// Waits for readiness and then moves bytes, instead of leaving buffers with the kernel: what was
/// not sent yet can be taken back at any time.
class Wire : public std::enable_shared_from_this<Wire> {
 public:
  /// Both run on the executor, never from inside a call to this class.
  struct Handlers {
    /// A line without its end, in Wire's own buffer. May call send(), drop_unsent() and close().
    std::function<void(std::string_view line)> line;
    /// Errc::closed after the peer hung up: the wire is closed. Errc::too_large for a line over the
    /// cap: what has come in is dropped, and the wire goes on, most likely in the middle of that
    /// line.
    std::function<void(Error)> error;
  };
  using ConnectHandler = std::move_only_function<void(Result<void>)>;

  Wire(const boost::asio::any_io_executor& executor, std::size_t max_line, Handlers handlers);

  /// Connects and starts reading. While the listener's queue is full it tries again, until close().
  void async_connect(const std::string& path, ConnectHandler handler);

  /// Takes over a connected socket, also when that fails, and starts reading.
  Result<void> adopt(int fd);

  /// Queues bytes; they leave in order as the peer takes them. Nothing happens on a closed wire.
  void send(std::string_view bytes);

  /// Forgets what has not left yet; the peer may have got a part of it.
  void drop_unsent();

  /// Ends everything; no handler is called any more.
  void close();

  bool is_open() const { return open_; }
  /// Part of a line has come in.
  bool has_partial_line() const { return !in_.empty(); }

 private:
  using Socket = boost::asio::local::stream_protocol::socket;

  void try_connect(const std::string& path, ConnectHandler handler);
  void wait_readable();
  bool read_some();
  void deliver_lines();
  void flush();
  void write_failed();
  void fail(const boost::system::error_code& ec);

  Socket socket_;
  boost::asio::steady_timer retry_;
  std::size_t max_line_;
  Handlers handlers_;
  bool open_ = false;
  bool closed_by_us_ = false;

  std::array<char, 65536> chunk_{};
  std::string in_;
  std::size_t scanned_ = 0;  ///< bytes of in_ known to hold no line end

  std::string out_;
  std::size_t sent_ = 0;  ///< bytes of out_ that have left
  bool waiting_writable_ = false;
};

}  // namespace vpatch::qmp
