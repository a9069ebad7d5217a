// SPDX-License-Identifier: Apache-2.0
// One direction of a pipe, on Boost.Asio.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "introspect/memory/unique_fd.h"

namespace vpatch::serve {

/// Reads a descriptor until it ends. Used on its executor's one thread, and owned by shared_ptr:
/// it keeps itself alive until the end or close().
class Reader : public std::enable_shared_from_this<Reader> {
 public:
  struct Handlers {
    std::function<void(std::string_view)> bytes;  ///< may call close()
    std::function<void()> end;                    ///< once, unless closed: nothing more will come
  };

  Reader(const boost::asio::any_io_executor& executor, introspect::UniqueFd fd, Handlers handlers);

  void start();
  /// Reads what is there now, up to 1 MiB, and closes. For the pipe of a process that has ended:
  /// somebody else may hold it open.
  void finish();
  /// No handler is called any more.
  void close();

 private:
  void wait();
  bool read_some();

  boost::asio::posix::stream_descriptor descriptor_;
  Handlers handlers_;
  bool closed_ = false;
  std::array<char, 65536> chunk_{};
};

/// Writes to a descriptor as its other end takes it. As Reader, with SIGPIPE ignored.
class Writer : public std::enable_shared_from_this<Writer> {
 public:
  /// `idle` is called when all has left, or the other end was closed: is_open() tells.
  Writer(const boost::asio::any_io_executor& executor, introspect::UniqueFd fd,
         std::function<void()> idle);

  void send(std::string bytes);
  /// Bytes that have not left yet.
  std::size_t pending() const { return pending_; }
  bool is_open() const { return descriptor_.is_open(); }
  void close();

 private:
  void wait();
  void flush();

  boost::asio::posix::stream_descriptor descriptor_;
  std::function<void()> idle_;
  std::deque<std::string> queue_;
  std::size_t sent_ = 0;  ///< of the first in the queue
  std::size_t pending_ = 0;
  bool waiting_ = false;
};

}  // namespace vpatch::serve
