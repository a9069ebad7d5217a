// SPDX-License-Identifier: Apache-2.0
#include "qmp/client.h"

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "qmp/deadline.h"
#include "qmp/executor.h"
#include "qmp/message.h"
#include "qmp/wire.h"

namespace vpatch::qmp {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

// Commands a peer may leave unanswered, counting those given up, before new ones are refused.
constexpr std::size_t kMaxUnanswered = 4096;

}  // namespace

class Client::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(const asio::any_io_executor& executor, const MessageLimits& limits)
      : executor_(executor), limits_(limits) {}

  /// Apart from the constructor, which cannot hand out weak pointers to this yet.
  void make_wire();

  void connect(const std::string& path, const CallOptions& options, ConnectHandler handler);
  void adopt(int fd, const CallOptions& options, ConnectHandler handler);
  void execute(std::string_view command, const json::object& arguments, const CallOptions& options,
               ReplyHandler handler);
  void close() { shut(Error{.code = Errc::closed, .what = "the client was closed"}); }
  bool is_open() const { return state_ == State::ready; }

  EventHandler on_event;
  ClosedHandler on_closed;

 private:
  /// idle -> connecting -> greeting -> negotiating -> ready; and each -> closed, by shut() alone.
  enum class State : std::uint8_t { idle, connecting, greeting, negotiating, ready, closed };

  struct Call {
    std::string command;
    ReplyHandler handler;
    std::unique_ptr<Deadline> deadline;
  };

  template <class Handler>
  void post_error(Handler handler, Error error) {
    run_later(executor_, [h = std::move(handler), e = std::move(error)]() mutable {
      h(std::unexpected(std::move(e)));
    });
  }

  bool begin_connecting(std::string target, const CallOptions& options, ConnectHandler& handler);
  void handshake_limit(Errc limit, const CallOptions& options);
  void call_limit(std::int64_t id, Errc limit, const CallOptions& options);
  void handle_line(std::string_view line);
  Result<void> handle_message(json::object message);
  Result<void> handle_greeting(json::object& message);
  Result<void> handle_reply(json::object& message);
  void negotiated(Reply reply);
  void shut(Error error);
  void connection_lost(Error error);

  asio::any_io_executor executor_;
  MessageLimits limits_;
  State state_ = State::idle;
  std::shared_ptr<Wire> wire_;

  std::string target_;
  json::object greeting_;
  ConnectHandler connect_handler_;
  std::unique_ptr<Deadline> connect_deadline_;

  std::int64_t next_id_ = 1;
  std::map<std::int64_t, Call> calls_;
  std::set<std::int64_t>
      given_up_;  ///< sent, not answered, and nobody waits: their replies are dropped
  std::string closed_why_;
};

void Client::Impl::make_wire() {
  const std::weak_ptr<Impl> weak = weak_from_this();
  Wire::Handlers handlers{.line =
                              [weak](std::string_view line) {
                                if (const auto self = weak.lock()) {
                                  self->handle_line(line);
                                }
                              },
                          .error =
                              [weak](Error error) {
                                if (const auto self = weak.lock()) {
                                  self->connection_lost(std::move(error));
                                }
                              }};
  wire_ = std::make_shared<Wire>(executor_, limits_.max_bytes, std::move(handlers));
}

bool Client::Impl::begin_connecting(std::string target, const CallOptions& options,
                                    ConnectHandler& handler) {
  target_ = std::move(target);
  if (state_ != State::idle) {
    post_error(std::move(handler),
               {.code = Errc::argument,
                .what = fmt::format("{}: the client was connected before", target_)});
    return false;
  }
  state_ = State::connecting;
  connect_handler_ = std::move(handler);
  if (const auto limit = limit_passed(options)) {
    shut(limit_error(target_, *limit, options));
    return false;
  }
  connect_deadline_ = std::make_unique<Deadline>(executor_, options,
                                                 [weak = weak_from_this(), options](Errc limit) {
                                                   if (const auto self = weak.lock()) {
                                                     self->handshake_limit(limit, options);
                                                   }
                                                 });
  return true;
}

void Client::Impl::connect(const std::string& path, const CallOptions& options,
                           ConnectHandler handler) {
  if (!begin_connecting(fmt::format("connect to the monitor at {}", path), options, handler)) {
    return;
  }
  wire_->async_connect(path, [weak = weak_from_this()](Result<void> connected) {
    const auto self = weak.lock();
    if (!self || self->state_ != State::connecting) {
      return;
    }
    if (!connected) {
      return self->shut(std::move(connected.error()));
    }
    self->state_ = State::greeting;
  });
}

void Client::Impl::adopt(int fd, const CallOptions& options, ConnectHandler handler) {
  if (!begin_connecting("connect to a monitor", options, handler)) {
    ::close(fd);
    return;
  }
  if (Result<void> adopted = wire_->adopt(fd); !adopted) {
    return shut(std::move(adopted.error()));
  }
  state_ = State::greeting;
}

void Client::Impl::handshake_limit(Errc limit, const CallOptions& options) {
  std::string_view silence = "no reply to qmp_capabilities";
  if (state_ == State::connecting) {
    silence = "the socket's queue of waiting programs stayed full";
  } else if (state_ == State::greeting) {
    silence = "no greeting (does another program hold the monitor's socket?)";
  }
  shut(limit_error(target_, limit, options, silence));
}

void Client::Impl::execute(std::string_view command, const json::object& arguments,
                           const CallOptions& options, ReplyHandler handler) {
  if (state_ != State::ready) {
    const bool closed = state_ == State::closed;
    return post_error(std::move(handler),
                      {.code = closed ? Errc::closed : Errc::argument,
                       .what = fmt::format("{}: {}", command,
                                           closed ? closed_why_ : "the client is not connected")});
  }
  if (const auto limit = limit_passed(options)) {
    return post_error(std::move(handler), limit_error(command, *limit, options));
  }
  if (calls_.size() + given_up_.size() >= kMaxUnanswered) {
    return post_error(
        std::move(handler),
        {.code = Errc::argument, .what = fmt::format("{}: too many commands unanswered", command)});
  }
  auto line = format_command(command, arguments, next_id_, limits_);
  if (!line) {
    return post_error(std::move(handler), std::move(line.error()));
  }
  const std::int64_t id = next_id_++;
  auto deadline = std::make_unique<Deadline>(executor_, options,
                                             [weak = weak_from_this(), id, options](Errc limit) {
                                               if (const auto self = weak.lock()) {
                                                 self->call_limit(id, limit, options);
                                               }
                                             });
  calls_.emplace(id, Call{std::string(command), std::move(handler), std::move(deadline)});
  wire_->send(*line);
}

void Client::Impl::call_limit(std::int64_t id, Errc limit, const CallOptions& options) {
  auto node = calls_.extract(id);
  if (!node) {
    return;
  }
  given_up_.insert(id);
  Call& call = node.mapped();
  call.handler(std::unexpected(limit_error(call.command, limit, options)));
}

void Client::Impl::handle_line(std::string_view line) {
  Result<json::object> message = parse_message(line, limits_);
  Result<void> handled =
      message ? handle_message(std::move(*message)) : std::unexpected(message.error());
  if (!handled) {
    wire_->close();
    connection_lost(std::move(handled.error()));
  }
}

Result<void> Client::Impl::handle_message(json::object message) {
  if (message.contains("event")) {
    Result<Event> event = parse_event(message);
    if (!event) {
      return std::unexpected(event.error());
    }
    if (on_event) {
      on_event(std::move(*event));
    }
    return {};
  }
  return state_ == State::greeting ? handle_greeting(message) : handle_reply(message);
}

Result<void> Client::Impl::handle_greeting(json::object& message) {
  json::value* greeting = message.if_contains("QMP");
  if (greeting == nullptr || !greeting->is_object()) {
    return failed(target_, Errc::protocol, "the peer's first message is not a QMP greeting");
  }
  greeting_ = std::move(greeting->get_object());
  state_ = State::negotiating;
  const std::int64_t id = next_id_++;
  auto line = format_command("qmp_capabilities", {}, id, limits_);
  if (!line) {
    return std::unexpected(line.error());
  }
  // Bounded by connect_deadline_.
  calls_.emplace(id, Call{"qmp_capabilities",
                          [weak = weak_from_this()](Reply reply) {
                            if (const auto self = weak.lock()) {
                              self->negotiated(std::move(reply));
                            }
                          },
                          nullptr});
  wire_->send(*line);
  return {};
}

void Client::Impl::negotiated(Reply reply) {
  if (state_ != State::negotiating) {
    return;
  }
  if (!reply) {
    return shut(std::move(reply.error()));
  }
  state_ = State::ready;
  connect_deadline_.reset();
  std::exchange(connect_handler_, nullptr)(std::move(greeting_));
}

Result<void> Client::Impl::handle_reply(json::object& message) {
  if (!message.contains("id")) {
    auto outcome = reply_outcome("a message", message);
    const bool refused = !outcome && outcome.error().code == Errc::command;
    return std::unexpected(Error{
        .code = Errc::protocol,
        .what = refused
                    ? fmt::format("the monitor could not read a command ({})", outcome.error().what)
                    : "the monitor sent a message that is no event and has no id"});
  }
  const auto id = int_member(message, "id", 0, std::numeric_limits<std::int64_t>::max());
  if (!id) {
    return failed("a reply", id.error());
  }
  if (given_up_.erase(*id) != 0) {
    return {};
  }
  auto node = calls_.extract(*id);
  if (!node) {
    return failed("a reply", Errc::protocol, fmt::format("no command has the id {}", *id));
  }
  Call& call = node.mapped();
  Reply outcome = reply_outcome(call.command, message);
  const bool broken = !outcome && outcome.error().code != Errc::command;
  const Result<void> verdict =
      broken ? Result<void>(std::unexpected(outcome.error())) : Result<void>();
  call.handler(std::move(outcome));
  return verdict;
}

/// The only way to State::closed. Tells all that is outstanding, from the executor.
void Client::Impl::shut(Error error) {
  if (state_ == State::closed) {
    return;
  }
  state_ = State::closed;
  closed_why_ = error.what;
  wire_->close();
  connect_deadline_.reset();
  given_up_.clear();
  for (auto& [id, call] : std::exchange(calls_, {})) {
    Error told = error;
    told.what = fmt::format("{}: {}", call.command, error.what);
    post_error(std::move(call.handler), std::move(told));
  }
  if (connect_handler_) {
    post_error(std::exchange(connect_handler_, nullptr), std::move(error));
  }
}

void Client::Impl::connection_lost(Error error) {
  const bool was_ready = state_ == State::ready;
  if (state_ == State::greeting || state_ == State::negotiating) {
    error.what = fmt::format("{}: {}", target_, error.what);
  }
  shut(error);
  if (was_ready && on_closed) {
    run_later(executor_, [handler = std::move(on_closed), told = std::move(error)]() mutable {
      handler(told);
    });
  }
}

Client::Client(const asio::any_io_executor& executor, const MessageLimits& limits)
    : impl_(std::make_shared<Impl>(executor, limits)) {
  impl_->make_wire();
}

Client::~Client() {
  impl_->close();
}

void Client::on_event(EventHandler handler) {
  impl_->on_event = std::move(handler);
}

void Client::on_closed(ClosedHandler handler) {
  impl_->on_closed = std::move(handler);
}

void Client::async_connect(const std::string& path, const CallOptions& options,
                           ConnectHandler handler) {
  impl_->connect(path, options, std::move(handler));
}

void Client::async_adopt(int fd, const CallOptions& options, ConnectHandler handler) {
  impl_->adopt(fd, options, std::move(handler));
}

void Client::async_execute(std::string_view command, const json::object& arguments,
                           const CallOptions& options, ReplyHandler handler) {
  impl_->execute(command, arguments, options, std::move(handler));
}

void Client::close() {
  impl_->close();
}

bool Client::is_open() const {
  return impl_->is_open();
}

}  // namespace vpatch::qmp
