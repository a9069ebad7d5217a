// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/stream.h"

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

namespace vpatch::serve {
namespace {

namespace asio = boost::asio;
using asio::posix::stream_descriptor;
using boost::system::error_code;

constexpr std::size_t kLastBytes = std::size_t{1} << 20;

void adopt(stream_descriptor& descriptor, introspect::UniqueFd fd) {
  if (!fd) {
    return;  // reading and writing fail then, which is the end of the stream
  }
  error_code ec;
  descriptor.assign(fd.get(), ec);
  if (ec) {
    return;
  }
  static_cast<void>(fd.release());
  descriptor.non_blocking(true, ec);
}

/// A file on a disk can be read and written, and not waited for.
bool is_ready(const error_code& ec) {
  return !ec || ec == asio::error::operation_not_supported;
}

bool is_passing(const error_code& ec) {
  return ec == asio::error::would_block || ec == asio::error::interrupted;
}

}  // namespace

Reader::Reader(const asio::any_io_executor& executor, introspect::UniqueFd fd, Handlers handlers)
    : descriptor_(executor), handlers_(std::move(handlers)) {
  adopt(descriptor_, std::move(fd));
}

void Reader::start() {
  wait();
}

void Reader::wait() {
  descriptor_.async_wait(stream_descriptor::wait_read,
                         [self = shared_from_this()](const error_code& ec) {
                           if (ec == asio::error::operation_aborted) {
                             return;
                           }
                           if (is_ready(ec) && self->read_some()) {
                             return self->wait();
                           }
                           if (!self->closed_) {
                             self->close();
                             self->handlers_.end();
                           }
                         });
}

/// Takes in one chunk. False at the end, or when the handler has closed.
bool Reader::read_some() {
  error_code ec;
  const std::size_t length = descriptor_.read_some(asio::buffer(chunk_), ec);
  if (ec) {
    return is_passing(ec);
  }
  handlers_.bytes({chunk_.data(), length});
  return !closed_;
}

void Reader::finish() {
  error_code ec;
  for (std::size_t taken = 0; taken < kLastBytes && !closed_;) {
    const std::size_t length = descriptor_.read_some(asio::buffer(chunk_), ec);
    if (ec == asio::error::interrupted) {
      continue;
    }
    if (ec) {
      break;
    }
    taken += length;
    handlers_.bytes({chunk_.data(), length});
  }
  close();
}

void Reader::close() {
  closed_ = true;
  error_code ignored;
  descriptor_.close(ignored);
}

Writer::Writer(const asio::any_io_executor& executor, introspect::UniqueFd fd,
               std::function<void()> idle)
    : descriptor_(executor), idle_(std::move(idle)) {
  adopt(descriptor_, std::move(fd));
}

void Writer::send(std::string bytes) {
  if (!is_open()) {
    return;
  }
  pending_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (!waiting_) {
    wait();
  }
}

void Writer::wait() {
  waiting_ = true;
  descriptor_.async_wait(stream_descriptor::wait_write,
                         [self = shared_from_this()](const error_code& ec) {
                           self->waiting_ = false;
                           if (ec == asio::error::operation_aborted) {
                             return;
                           }
                           if (!is_ready(ec)) {
                             self->close();
                             return self->idle_();
                           }
                           self->flush();
                         });
}

void Writer::flush() {
  while (!queue_.empty()) {
    error_code ec;
    const std::size_t length = descriptor_.write_some(asio::buffer(queue_.front()) + sent_, ec);
    if (is_passing(ec)) {
      return wait();
    }
    if (ec) {
      close();
      break;
    }
    pending_ -= length;
    sent_ += length;
    if (sent_ == queue_.front().size()) {
      queue_.pop_front();
      sent_ = 0;
    }
  }
  idle_();
}

void Writer::close() {
  error_code ignored;
  descriptor_.close(ignored);
  queue_.clear();
  pending_ = 0;
}

}  // namespace vpatch::serve
