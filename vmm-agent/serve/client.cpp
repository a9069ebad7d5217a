// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/client.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <set>
#include <utility>
#include <variant>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "qmp/message.h"
#include "vmm-agent/serve/child_process.h"
#include "vmm-agent/serve/protocol.h"
#include "vmm-agent/serve/stream.h"

namespace vpatch::serve {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using boost::system::error_code;

constexpr std::size_t kMaxSaid = 1000;  ///< of the command's standard error, the newest
constexpr std::size_t kMaxUnanswered = 4096;

Error lost_error(std::string what) {
  return {Outcome::unreachable, std::move(what),
          "What was under way goes on there by itself: look at its guests before anything else."};
}

/// What the server's error answer means for the guest.
Error error_of(std::string_view method, const Failure& failure) {
  const bool died = failure.code == ErrorCode::child_failed;
  return {died ? Outcome::failed_needs_look : Outcome::refused,
          fmt::format("{}: {}", method, failure.text)};
}

/// Without ssh's options, which hide what matters.
std::string shown(const std::vector<std::string>& command) {
  const auto end = std::ranges::find(command, "--");
  if (end == command.end()) {
    return fmt::format("{}", fmt::join(command, " "));
  }
  std::string text = command.front();
  std::for_each(end + 1, command.end(), [&text](const std::string& word) { text += " " + word; });
  return text;
}

}  // namespace

class Client::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(const asio::any_io_executor& executor, std::vector<std::string> command,
       ClientOptions options, Handlers handlers)
      : executor_(executor),
        command_(std::move(command)),
        options_(std::move(options)),
        handlers_(std::move(handlers)),
        silence_(executor) {}

  void connect();
  bool is_connected() const { return state_ == State::ready; }
  std::int64_t call(std::string_view method, json::object params, std::chrono::milliseconds timeout,
                    ReplyHandler handler);
  void cancel(std::int64_t request);
  void close();

 private:
  enum class State : std::uint8_t { closed, greeting, ready };

  struct Call {
    std::string method;
    ReplyHandler handler;
    std::unique_ptr<asio::steady_timer> deadline;
  };

  Result<void> start();
  std::int64_t send(std::string_view method, json::object params, std::chrono::milliseconds timeout,
                    ReplyHandler handler);
  void watch_silence();
  void take_in(std::string_view bytes);
  Result<void> handle_line(std::string_view line);
  Result<void> handle_answer(Answer& answer);
  Result<void> handle_notification(const Notification& told);
  void greeted(const Reply& reply);
  void past_deadline(std::int64_t id, std::chrono::milliseconds timeout);
  void take_errors(std::string_view bytes);
  void hang_up(const Error& error);
  void lose(Error error);

  /// A handler that does nothing once the connection it was made for is over, or the client gone.
  template <class Function>
  auto of_this_connection(Function function) {
    return [weak = weak_from_this(), connection = connection_,
            function = std::move(function)]<class... Words>(Words&&... words) {
      const auto self = weak.lock();
      if (self && self->state_ != State::closed && self->connection_ == connection) {
        function(*self, std::forward<Words>(words)...);
      }
    };
  }

  asio::any_io_executor executor_;
  std::vector<std::string> command_;
  ClientOptions options_;
  Handlers handlers_;

  State state_ = State::closed;
  std::uint64_t connection_ = 0;  ///< counts them
  std::shared_ptr<ChildProcess> child_;
  std::shared_ptr<Reader> reader_;
  std::shared_ptr<Reader> errors_;
  std::shared_ptr<Writer> writer_;
  LineSplitter lines_{kMaxLine};
  std::string said_;
  asio::steady_timer silence_;
  std::chrono::steady_clock::time_point heard_;

  std::int64_t next_id_ = 1;  ///< goes on over connections
  std::map<std::int64_t, Call> calls_;
  std::set<std::int64_t> given_up_;  ///< sent, not answered, and nobody waits
};

void Client::Impl::connect() {
  if (state_ != State::closed) {
    return;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a peer that hangs up is an error value
  state_ = State::greeting;
  ++connection_;
  lines_ = LineSplitter(kMaxLine);
  said_.clear();
  if (auto started = start(); !started) {
    asio::post(executor_,
               of_this_connection([error = started.error()](Impl& self) { self.lose(error); }));
    return;
  }
  heard_ = std::chrono::steady_clock::now();
  send("hello", {{"version", kVersion}, {"vpatch", options_.vpatch}}, options_.greeting,
       [weak = weak_from_this(), connection = connection_](const Reply& reply) {
         if (const auto self = weak.lock(); self && self->connection_ == connection) {
           self->greeted(reply);
         }
       });
}

Result<void> Client::Impl::start() {
  auto child = ChildProcess::start(
      executor_, {.program = command_.front(), .words = command_, .input = true}, [](ChildEnd) {});
  if (!child) {
    return std::unexpected(std::move(child.error()));
  }
  child_ = *std::move(child);
  // The end of the output, not of the process, is the end: what it said last is then known.
  reader_ = std::make_shared<Reader>(
      executor_, std::move(child_->output),
      Reader::Handlers{
          .bytes =
              of_this_connection([](Impl& self, std::string_view bytes) { self.take_in(bytes); }),
          .end = of_this_connection([](Impl& self) { self.lose(lost_error("it has ended")); })});
  errors_ = std::make_shared<Reader>(
      executor_, std::move(child_->errors),
      Reader::Handlers{.bytes = of_this_connection(
                           [](Impl& self, std::string_view bytes) { self.take_errors(bytes); }),
                       .end = [] {}});
  writer_ = std::make_shared<Writer>(executor_, std::move(child_->input), [] {});
  reader_->start();
  errors_->start();
  return {};
}

void Client::Impl::greeted(const Reply& reply) {
  if (state_ != State::greeting) {
    return;
  }
  if (!reply) {
    Error error = reply.error();
    return lose(std::move(error));
  }
  const auto version = qmp::int_member(*reply, "version", kVersion, kVersion);
  const auto vpatch = qmp::string_member(*reply, "vpatch");
  if (!version || !vpatch) {
    return lose({Outcome::refused, "the answer to hello has not this version, or no \"vpatch\""});
  }
  state_ = State::ready;
  heard_ = std::chrono::steady_clock::now();
  watch_silence();
  if (handlers_.connected) {
    handlers_.connected(std::string(*vpatch));
  }
}

void Client::Impl::watch_silence() {
  silence_.expires_at(heard_ + options_.silence);
  silence_.async_wait([still = of_this_connection([](Impl& self) {
                         const auto now = std::chrono::steady_clock::now();
                         if (now - self.heard_ < self.options_.silence) {
                           return self.watch_silence();
                         }
                         self.lose(lost_error(fmt::format("no sign of life for {} ms",
                                                          self.options_.silence.count())));
                       })](const error_code& ec) {
    if (!ec) {
      still();
    }
  });
}

std::int64_t Client::Impl::call(std::string_view method, json::object params,
                                std::chrono::milliseconds timeout, ReplyHandler handler) {
  const bool full = calls_.size() + given_up_.size() >= kMaxUnanswered;
  if (state_ != State::ready || full) {
    Error error{Outcome::refused,
                fmt::format("{}: {}", method,
                            full ? "too many requests are unanswered" : "there is no connection")};
    asio::post(executor_, [told = std::move(error), h = std::move(handler)]() mutable {
      h(std::unexpected(std::move(told)));
    });
    return 0;
  }
  return send(method, std::move(params), timeout, std::move(handler));
}

std::int64_t Client::Impl::send(std::string_view method, json::object params,
                                std::chrono::milliseconds timeout, ReplyHandler handler) {
  const std::int64_t id = next_id_++;
  auto deadline = std::make_unique<asio::steady_timer>(executor_, timeout);
  deadline->async_wait([still = of_this_connection([id, timeout](Impl& self) {
                          self.past_deadline(id, timeout);
                        })](const error_code& ec) {
    if (!ec) {
      still();
    }
  });
  calls_.emplace(id, Call{std::string(method), std::move(handler), std::move(deadline)});
  writer_->send(format_request(id, method, std::move(params)));
  return id;
}

void Client::Impl::past_deadline(std::int64_t id, std::chrono::milliseconds timeout) {
  auto node = calls_.extract(id);
  if (!node) {
    return;  // answered in the same moment
  }
  given_up_.insert(id);
  cancel(id);
  Call& call = node.mapped();
  call.handler(std::unexpected(
      lost_error(fmt::format("{}: no answer within {} ms", call.method, timeout.count()))));
}

void Client::Impl::cancel(std::int64_t request) {
  if (state_ != State::ready) {
    return;
  }
  const std::int64_t id = next_id_++;
  given_up_.insert(id);  // of no interest: the request itself is answered
  writer_->send(format_request(id, "cancel", {{"request", request}}));
}

void Client::Impl::take_in(std::string_view bytes) {
  heard_ = std::chrono::steady_clock::now();
  const auto connection = connection_;
  const auto self = shared_from_this();  // a handler may destroy the client
  const auto goes_on = [&] { return state_ != State::closed && connection_ == connection; };
  const bool fine = lines_.feed(bytes, [&](std::string_view line) {
    if (auto handled = handle_line(line); !handled && goes_on()) {
      lose(std::move(handled.error()));
    }
    return goes_on();
  });
  if (!fine && goes_on()) {
    lose(lost_error(fmt::format("a line is over {} bytes", kMaxLine)));
  }
}

Result<void> Client::Impl::handle_line(std::string_view line) {
  auto message = parse_message(line);
  if (!message) {
    return std::unexpected(lost_error(message.error().text));
  }
  if (auto* answer = std::get_if<Answer>(&*message)) {
    return handle_answer(*answer);
  }
  if (const auto* told = std::get_if<Notification>(&*message)) {
    return handle_notification(*told);
  }
  return std::unexpected(lost_error("the server has sent a request"));
}

Result<void> Client::Impl::handle_answer(Answer& answer) {
  if (!answer.id) {
    return std::unexpected(lost_error("the server could not read a request: " +
                                      (answer.result ? "" : answer.result.error().text)));
  }
  if (given_up_.erase(*answer.id) != 0) {
    return {};
  }
  auto node = calls_.extract(*answer.id);
  if (!node) {
    return std::unexpected(lost_error(fmt::format("no request has the id {}", *answer.id)));
  }
  Call& call = node.mapped();
  call.deadline.reset();
  if (answer.result) {
    call.handler(std::move(printable_value(json::value(std::move(*answer.result))).as_object()));
  } else {
    call.handler(std::unexpected(error_of(call.method, answer.result.error())));
  }
  return {};
}

/// What is not known is of a newer server.
Result<void> Client::Impl::handle_notification(const Notification& told) {
  if (told.method != "progress") {
    return {};
  }
  const auto request = qmp::int_member(told.params, "request", 1, kMaxId);
  const auto kind = qmp::string_member(told.params, "kind");
  const auto text = qmp::string_member(told.params, "text");
  if (!request || !kind || !text ||
      (*kind != "step" && *kind != "warning" && *kind != "progress")) {
    return std::unexpected(lost_error("a progress notification has a wrong field"));
  }
  if (calls_.contains(*request) && handlers_.progress) {
    handlers_.progress({*request, std::string(*kind), printable(*text)});
  }
  return {};
}

void Client::Impl::take_errors(std::string_view bytes) {
  said_ += bytes;
  if (said_.size() > kMaxSaid) {
    said_.erase(0, said_.size() - kMaxSaid);
  }
}

/// The only way to State::closed.
void Client::Impl::hang_up(const Error& error) {
  state_ = State::closed;
  silence_.cancel();
  given_up_.clear();
  for (const auto& reader : {reader_, errors_}) {
    if (reader) {
      reader->close();
    }
  }
  if (writer_) {
    writer_->close();
  }
  reader_.reset();
  errors_.reset();
  writer_.reset();
  for (auto& [id, call] : std::exchange(calls_, {})) {
    asio::post(executor_, [told = Error(error).in_context(call.method),
                           handler = std::move(call.handler)]() mutable {
      handler(std::unexpected(std::move(told)));
    });
  }
}

void Client::Impl::lose(Error error) {
  if (errors_) {
    errors_->finish();  // ssh says there why
  }
  std::ranges::replace_if(said_, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  const std::string said = printable(said_, kMaxSaid);
  error.what =
      fmt::format("{}: {}{}{}", shown(command_), error.what, said.empty() ? "" : ": ", said);
  hang_up(error);
  if (const auto child = std::exchange(child_, nullptr)) {
    child->signal(SIGTERM);  // ssh ends; a server at the other end of it sees the end of its input
  }
  asio::post(executor_, [weak = weak_from_this(), told = std::move(error)] {
    if (const auto self = weak.lock(); self && self->handlers_.lost) {
      self->handlers_.lost(told);
    }
  });
}

void Client::Impl::close() {
  if (state_ != State::closed) {
    hang_up(lost_error("the connection was closed"));
    child_.reset();
  }
}

Client::Client(const asio::any_io_executor& executor, std::vector<std::string> command,
               ClientOptions options, Handlers handlers)
    : impl_(std::make_shared<Impl>(executor, std::move(command), std::move(options),
                                   std::move(handlers))) {}

Client::~Client() {
  impl_->close();
}

void Client::connect() {
  impl_->connect();
}

bool Client::is_connected() const {
  return impl_->is_connected();
}

std::int64_t Client::call(std::string_view method, json::object params,
                          std::chrono::milliseconds timeout, ReplyHandler handler) {
  return impl_->call(method, std::move(params), timeout, std::move(handler));
}

void Client::cancel(std::int64_t request) {
  impl_->cancel(request);
}

void Client::close() {
  impl_->close();
}

}  // namespace vpatch::serve
