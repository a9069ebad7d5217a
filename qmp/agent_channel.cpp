// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <system_error>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "qmp/deadline.h"
#include "qmp/message.h"
#include "qmp/socket_channel.h"
#include "qmp/wire.h"

namespace vpatch::qmp {
namespace {

namespace json = boost::json;

// Sent by either side before what must be read afresh. No valid JSON text holds this byte.
constexpr char kSentinel = '\xFF';

constexpr std::string_view kSync = "guest-sync-delimited";

constexpr std::string_view kSilence =
    "no answer (the guest agent is not running or is stuck, or another program holds the agent's "
    "socket)";

// How long the first connection to an agent is given, each next one twice as long. A client that
// died while its VM was paused can leave the port so that what the next one sends is never
// answered; the one after that is.
constexpr std::chrono::milliseconds kFirstPatience{3000};
constexpr std::chrono::milliseconds kLeastPatience{1};

// Bounds the look for bytes that came in between calls, whatever a peer sends meanwhile.
constexpr int kMaxPolls = 64;

}  // namespace

class AgentChannel::Impl {
 public:
  explicit Impl(const MessageLimits& limits)
      : limits_(limits),
        wire_(std::make_shared<Wire>(
            io_.get_executor(), limits.max_bytes,
            Wire::Handlers{.line = [this](std::string_view line) { lines_.emplace_back(line); },
                           .error = [this](Error error) { wire_error_ = std::move(error); }})) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { wire_->close(); }

  Result<void> connect(const std::string& path, const CallOptions& options);
  Result<void> adopt(int fd, const CallOptions& options);
  Result<json::value> execute(std::string_view command, const json::object& arguments,
                              const CallOptions& options);

 private:
  /// One call's limit, once met.
  struct Limit {
    Limit(boost::asio::io_context& io, const CallOptions& call_options)
        : options(call_options),
          met(limit_passed(options)),
          deadline(io.get_executor(), options, [this](Errc code) { met = code; }) {}

    const CallOptions& options;
    std::optional<Errc> met;
    Deadline deadline;
  };

  void run_one() {
    io_.restart();
    io_.run_one();
  }
  bool absorb_stray_input();
  Result<std::string> next_line(std::string_view attempted, const Limit& limit);
  Result<void> synchronise(const Limit& limit);

  boost::asio::io_context io_{1};
  MessageLimits limits_;
  std::shared_ptr<Wire> wire_;
  std::deque<std::string> lines_;
  std::optional<Error> wire_error_;
  /// What comes next from the agent may belong to an earlier command.
  bool out_of_sync_ = true;
};

Result<void> AgentChannel::Impl::connect(const std::string& path, const CallOptions& options) {
  const std::string attempted = fmt::format("connect to the guest agent at {}", path);
  Limit limit(io_, options);
  std::optional<Result<void>> connected;
  wire_->async_connect(path,
                       [&connected](Result<void> outcome) { connected = std::move(outcome); });
  while (!connected && !limit.met) {
    run_one();
  }
  if (!connected) {
    wire_->close();
    return std::unexpected(limit_error(attempted, *limit.met, options,
                                       "the socket's queue of waiting programs stayed full"));
  }
  if (!*connected) {
    return std::move(*connected);
  }
  if (Result<void> synchronised = synchronise(limit); !synchronised) {
    return failed(attempted, std::move(synchronised.error()));
  }
  return {};
}

Result<void> AgentChannel::Impl::adopt(int fd, const CallOptions& options) {
  if (Result<void> adopted = wire_->adopt(fd); !adopted) {
    return adopted;
  }
  return synchronise(Limit(io_, options));
}

Result<json::value> AgentChannel::Impl::execute(std::string_view command,
                                                const json::object& arguments,
                                                const CallOptions& options) {
  const Result<std::string> line = format_command(command, arguments, std::nullopt, limits_);
  if (!line) {
    return std::unexpected(line.error());
  }
  Limit limit(io_, options);
  if (limit.met) {
    return std::unexpected(limit_error(command, *limit.met, options, kSilence));
  }
  if (absorb_stray_input()) {
    out_of_sync_ = true;
  }
  if (out_of_sync_) {
    if (Result<void> synchronised = synchronise(limit); !synchronised) {
      return failed(command, std::move(synchronised.error()));
    }
  }
  out_of_sync_ = true;  // until a well-formed reply is in hand
  wire_->send(*line);
  const Result<std::string> reply = next_line(command, limit);
  if (!reply) {
    return std::unexpected(reply.error());
  }
  Result<json::object> message = parse_message(*reply, limits_);
  if (!message) {
    return failed(command, std::move(message.error()));
  }
  Result<json::value> outcome = reply_outcome(command, *message);
  out_of_sync_ = !outcome && outcome.error().code != Errc::command;
  return outcome;
}

/// Drops what came in while no command was under way. True when there was something.
bool AgentChannel::Impl::absorb_stray_input() {
  io_.restart();
  for (int polls = 0; polls < kMaxPolls && io_.poll_one() != 0; ++polls) {
  }
  bool stray = !lines_.empty() || wire_->has_partial_line();
  lines_.clear();
  if (wire_error_ && wire_->is_open()) {
    wire_error_.reset();
    stray = true;
  }
  return stray;
}

/// The next line of the agent. After any failure nothing of ours is left to be sent.
Result<std::string> AgentChannel::Impl::next_line(std::string_view attempted, const Limit& limit) {
  while (true) {
    if (!lines_.empty()) {
      std::string line = std::move(lines_.front());
      lines_.pop_front();
      return line;
    }
    if (wire_error_) {
      Error error = *wire_error_;
      if (wire_->is_open()) {
        wire_error_.reset();
      }
      wire_->drop_unsent();
      return failed(attempted, std::move(error));
    }
    if (limit.met) {
      wire_->drop_unsent();
      return std::unexpected(limit_error(attempted, *limit.met, limit.options, kSilence));
    }
    run_one();
  }
}

/// Makes the agent forget half a command and finds the place in its output that follows all it said
/// before. A reply to an earlier synchronisation, or anything else, is dropped like other stale
/// bytes.
Result<void> AgentChannel::Impl::synchronise(const Limit& limit) {
  std::uint64_t random = 0;
  if (::getentropy(&random, sizeof(random)) != 0) {
    return std::unexpected(Error{.code = Errc::connect,
                                 .what = fmt::format("{}: no random number", kSync),
                                 .sys_errno = errno});
  }
  const auto id = static_cast<std::int64_t>(random >> 12);  // what a double holds exactly, too
  const Result<std::string> line = format_command(kSync, {{"id", id}}, std::nullopt, limits_);
  if (!line) {
    return std::unexpected(line.error());
  }
  wire_->send(kSentinel + *line);
  std::size_t dropped = 0;
  while (dropped <= limits_.max_bytes) {
    const Result<std::string> reply = next_line(kSync, limit);
    if (!reply) {
      return std::unexpected(reply.error());
    }
    dropped += reply->size();
    const std::size_t sentinel = reply->rfind(kSentinel);
    if (sentinel == std::string::npos) {
      continue;
    }
    const Result<json::object> message =
        parse_message(std::string_view(*reply).substr(sentinel + 1), limits_);
    if (message && int_member(*message, "return", id, id)) {
      out_of_sync_ = false;
      return {};
    }
  }
  return failed(kSync, Errc::too_large,
                fmt::format("over {} bytes came in, but not the answer", limits_.max_bytes));
}

AgentChannel::AgentChannel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AgentChannel::~AgentChannel() = default;

Result<std::unique_ptr<AgentChannel>> AgentChannel::open(
    const std::function<Result<void>(Impl&)>& start, const MessageLimits& limits) try {
  auto impl = std::make_unique<Impl>(limits);
  if (Result<void> started = start(*impl); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return std::unique_ptr<AgentChannel>(new AgentChannel(std::move(impl)));
} catch (const std::system_error& e) {  // Asio's loop needs descriptors of its own
  return std::unexpected(Error{.code = Errc::connect,
                               .what = std::string("start an I/O loop: ") + e.what(),
                               .sys_errno = e.code().value()});
}

Result<std::unique_ptr<AgentChannel>> AgentChannel::connect(const std::string& path,
                                                            const CallOptions& options,
                                                            const MessageLimits& limits) {
  using Clock = std::chrono::steady_clock;
  const auto give_up = Clock::now() + options.timeout;
  for (auto patience = kFirstPatience;; patience *= 2) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(give_up - Clock::now());
    const bool last = patience >= left;
    const CallOptions attempt{last ? std::max(left, kLeastPatience) : patience, options.stop};
    auto channel = open([&](Impl& impl) { return impl.connect(path, attempt); }, limits);
    if (channel || last || channel.error().code != Errc::timeout) {
      return channel;
    }
  }
}

Result<std::unique_ptr<AgentChannel>> AgentChannel::adopt(int fd, const CallOptions& options,
                                                          const MessageLimits& limits) {
  bool taken = false;
  auto channel = open(
      [&](Impl& impl) {
        taken = true;
        return impl.adopt(fd, options);
      },
      limits);
  if (!taken) {
    ::close(fd);
  }
  return channel;
}

Result<json::value> AgentChannel::execute(std::string_view command, json::object arguments,
                                          const CallOptions& options) {
  return impl_->execute(command, arguments, options);
}

}  // namespace vpatch::qmp
