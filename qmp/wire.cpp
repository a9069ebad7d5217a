// SPDX-License-Identifier: Apache-2.0
#include "qmp/wire.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/executor.h"

namespace vpatch::qmp {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::chrono::milliseconds kConnectRetry{10};

// After a failed write, what the peer said before it hung up is still read, up to this many chunks.
constexpr int kLastReads = 1024;

std::string errno_text(int number) {
  return std::generic_category().message(number);
}

std::unexpected<Error> connect_error(const std::string& path, int number) {
  return std::unexpected(Error{.code = Errc::connect,
                               .what = fmt::format("connect to {}: {}", path, errno_text(number)),
                               .sys_errno = number});
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return std::unexpected(
        Error{.code = Errc::argument,
              .what = fmt::format("connect to \"{}\": a socket's path has 1 to {} bytes and no NUL",
                                  path, sizeof(address.sun_path) - 1)});
  }
  std::ranges::copy(path, address.sun_path);
  return address;
}

}  // namespace

Wire::Wire(const asio::any_io_executor& executor, std::size_t max_line, Handlers handlers)
    : socket_(executor), retry_(executor), max_line_(max_line), handlers_(std::move(handlers)) {}

void Wire::async_connect(const std::string& path, ConnectHandler handler) {
  run_later(socket_.get_executor(),
            [self = shared_from_this(), path, done = std::move(handler)]() mutable {
              self->try_connect(path, std::move(done));
            });
}

// A non-blocking connect() of a Unix socket ends at once: done, refused, or EAGAIN when the
// listener's queue is full. The last is no "in progress" to wait for, which Asio's own
// async_connect() takes it for.
void Wire::try_connect(const std::string& path, ConnectHandler handler) {
  if (closed_by_us_) {
    return;
  }
  const auto address = address_of(path);
  if (!address) {
    return handler(std::unexpected(address.error()));
  }
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return handler(connect_error(path, errno));
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0) {
    return handler(adopt(fd));
  }
  const int number = errno;
  ::close(fd);
  if (number != EAGAIN && number != EINTR) {
    return handler(connect_error(path, number));
  }
  retry_.expires_after(kConnectRetry);
  retry_.async_wait(
      [self = shared_from_this(), path, done = std::move(handler)](const error_code& ec) mutable {
        if (!ec) {
          self->try_connect(path, std::move(done));
        }
      });
}

Result<void> Wire::adopt(int fd) {
  error_code ec;
  socket_.assign(asio::local::stream_protocol(), fd, ec);
  if (ec) {
    ::close(fd);
    return connect_error("an open socket", ec.value());
  }
  socket_.non_blocking(true, ec);
  if (ec) {
    socket_.close(ec);
    return connect_error("an open socket", ec.value());
  }
  open_ = true;
  wait_readable();
  return {};
}

void Wire::send(std::string_view bytes) {
  if (!open_) {
    return;
  }
  out_ += bytes;
  if (!waiting_writable_) {
    flush();
  }
}

void Wire::drop_unsent() {
  out_.clear();
  sent_ = 0;
}

void Wire::close() {
  closed_by_us_ = true;
  open_ = false;
  error_code ec;
  socket_.close(ec);
  retry_.cancel();
}

void Wire::wait_readable() {
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const error_code& ec) {
    if (!self->open_) {
      return;
    }
    if (ec) {
      self->fail(ec);
    } else {
      self->read_some();
      if (self->open_) {
        self->wait_readable();
      }
    }
  });
}

/// Takes in one chunk. False when there was none or the wire is closed.
bool Wire::read_some() {
  error_code ec;
  const std::size_t length = socket_.read_some(asio::buffer(chunk_), ec);
  if (ec) {
    if (ec != asio::error::would_block && ec != asio::error::interrupted) {
      fail(ec);
    }
    return false;
  }
  in_.append(chunk_.data(), length);
  deliver_lines();
  return open_;
}

void Wire::deliver_lines() {
  std::size_t begin = 0;
  bool too_long = false;
  while (open_) {
    const std::size_t end = in_.find('\n', std::max(begin, scanned_));
    if (end == std::string::npos) {
      scanned_ = in_.size();
      too_long = in_.size() - begin > max_line_;
      break;
    }
    std::string_view line(in_.data() + begin, end - begin);
    begin = end + 1;
    if (line.size() > max_line_) {
      too_long = true;
      break;
    }
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (!line.empty()) {
      handlers_.line(line);
    }
  }
  if (too_long) {
    begin = in_.size();
  }
  in_.erase(0, begin);
  scanned_ -= std::min(scanned_, begin);
  if (too_long) {
    handlers_.error({.code = Errc::too_large,
                     .what = fmt::format("a message is over the limit of {} bytes", max_line_)});
  }
}

void Wire::flush() {
  while (sent_ < out_.size()) {
    error_code ec;
    sent_ += socket_.write_some(asio::buffer(out_) + sent_, ec);
    if (ec == asio::error::interrupted) {
      continue;
    }
    if (ec == asio::error::would_block) {
      waiting_writable_ = true;
      socket_.async_wait(Socket::wait_write, [self = shared_from_this()](const error_code&) {
        self->waiting_writable_ = false;
        if (self->open_) {
          self->flush();
        }
      });
      return;
    }
    if (ec) {
      run_later(socket_.get_executor(), [self = shared_from_this()] { self->write_failed(); });
      break;
    }
  }
  drop_unsent();
}

void Wire::write_failed() {
  for (int reads = 0; open_ && reads < kLastReads && read_some(); ++reads) {
  }
  if (open_) {
    fail(asio::error::broken_pipe);
  }
}

void Wire::fail(const error_code& ec) {
  open_ = false;
  error_code ignored;
  socket_.close(ignored);
  if (ec == asio::error::eof) {
    handlers_.error({.code = Errc::closed, .what = "the peer closed the connection"});
  } else {
    handlers_.error({.code = Errc::closed,
                     .what = fmt::format("the connection broke ({})", errno_text(ec.value())),
                     .sys_errno = ec.value()});
  }
}

}  // namespace vpatch::qmp
