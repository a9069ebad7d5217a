// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <optional>
#include <system_error>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <unistd.h>

#include "qmp/deadline.h"
#include "qmp/message.h"
#include "qmp/socket_channel.h"

namespace vpatch::qmp {
namespace {

constexpr std::size_t kMaxEvents = 4096;

// Bounds the look for events that came in between calls, whatever a peer sends meanwhile.
constexpr int kMaxPolls = 4096;

}  // namespace

class MonitorChannel::Impl {
 public:
  explicit Impl(const MessageLimits& limits) : client(io.get_executor(), limits) {
    client.on_event([this](Event event) {
      if (events.size() == kMaxEvents) {
        events.pop_front();
        ++lost_events;
      }
      events.push_back(std::move(event));
    });
    client.on_closed([this](const Error& error) { closed = error; });
  }

  /// Waits for something to happen in this thread. During a call its Deadline is sure to.
  void run_one() {
    io.restart();
    io.run_one();
  }

  /// What the handler given to `start` is called with.
  template <class T, class Start>
  Result<T> outcome_of(Start start) {
    std::optional<Result<T>> outcome;
    start([&outcome](Result<T> told) { outcome.emplace(std::move(told)); });
    while (!outcome) {
      run_one();
    }
    return std::move(*outcome);
  }

  boost::asio::io_context io{1};  // first: everything below has operations on it
  std::deque<Event> events;
  std::size_t lost_events = 0;
  std::optional<Error> closed;
  boost::json::object greeting;
  Client client;
};

MonitorChannel::MonitorChannel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

MonitorChannel::~MonitorChannel() = default;

Result<std::unique_ptr<MonitorChannel>> MonitorChannel::open(
    const std::function<void(Client&, Client::ConnectHandler)>& start,
    const MessageLimits& limits) try {
  auto impl = std::make_unique<Impl>(limits);
  auto greeting = impl->outcome_of<boost::json::object>(
      [&](Client::ConnectHandler done) { start(impl->client, std::move(done)); });
  if (!greeting) {
    return std::unexpected(std::move(greeting.error()));
  }
  impl->greeting = std::move(*greeting);
  return std::unique_ptr<MonitorChannel>(new MonitorChannel(std::move(impl)));
} catch (const std::system_error& e) {  // Asio's loop needs descriptors of its own
  return std::unexpected(Error{.code = Errc::connect,
                               .what = std::string("start an I/O loop: ") + e.what(),
                               .sys_errno = e.code().value()});
}

Result<std::unique_ptr<MonitorChannel>> MonitorChannel::connect(const std::string& path,
                                                                const CallOptions& options,
                                                                const MessageLimits& limits) {
  return open(
      [&](Client& client, Client::ConnectHandler done) {
        client.async_connect(path, options, std::move(done));
      },
      limits);
}

Result<std::unique_ptr<MonitorChannel>> MonitorChannel::adopt(int fd, const CallOptions& options,
                                                              const MessageLimits& limits) {
  bool taken = false;
  auto channel = open(
      [&](Client& client, Client::ConnectHandler done) {
        taken = true;
        client.async_adopt(fd, options, std::move(done));
      },
      limits);
  if (!taken) {
    ::close(fd);
  }
  return channel;
}

Result<boost::json::value> MonitorChannel::execute(std::string_view command,
                                                   boost::json::object arguments,
                                                   const CallOptions& options) {
  return impl_->outcome_of<boost::json::value>([&](Client::ReplyHandler done) {
    impl_->client.async_execute(command, arguments, options, std::move(done));
  });
}

Result<Event> MonitorChannel::wait_event(const std::function<bool(const Event&)>& accept,
                                         const CallOptions& options) {
  constexpr std::string_view kAttempted = "wait for an event";
  std::optional<Errc> limit = limit_passed(options);
  const Deadline deadline(impl_->io.get_executor(), options, [&limit](Errc met) { limit = met; });
  while (true) {
    while (!impl_->events.empty()) {
      Event event = std::move(impl_->events.front());
      impl_->events.pop_front();
      if (accept(event)) {
        return event;
      }
    }
    if (limit) {
      return std::unexpected(limit_error(kAttempted, *limit, options, "no such event"));
    }
    if (const std::optional<Error>& closed = impl_->closed) {
      return failed(kAttempted, *closed);
    }
    impl_->run_one();
  }
}

std::vector<Event> MonitorChannel::take_events() {
  impl_->io.restart();
  for (int polls = 0; polls < kMaxPolls && impl_->io.poll_one() != 0; ++polls) {
  }
  std::vector<Event> taken(std::make_move_iterator(impl_->events.begin()),
                           std::make_move_iterator(impl_->events.end()));
  impl_->events.clear();
  return taken;
}

std::size_t MonitorChannel::lost_events() const {
  return impl_->lost_events;
}

const boost::json::object& MonitorChannel::greeting() const {
  return impl_->greeting;
}

}  // namespace vpatch::qmp
