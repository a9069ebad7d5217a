// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "qmp/agent_reply.h"
#include "qmp/base64.h"
#include "qmp/guest_agent.h"
#include "qmp/message.h"

namespace vpatch::qmp {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// The agent has no event for a program's end. Most programs run for us end at once, so the first
// look comes soon and the next ones ever later.
constexpr milliseconds kFirstPoll{2};
constexpr milliseconds kLongestPoll{100};

// As the agent's own cap (GUEST_EXEC_MAX_OUTPUT).
constexpr std::size_t kMaxOutput = std::size_t{16} << 20;
// Leaves room for the rest of the command under the default message limit once it is base64.
constexpr std::size_t kMaxInput = std::size_t{8} << 20;

constexpr std::int64_t kMaxSignal = 128;

// Keeps now() + timeout inside the clock's range whatever the caller asks for.
constexpr milliseconds kLongestRun = std::chrono::hours(24 * 365);

Result<std::int64_t> start(Channel& channel, const ExecRequest& request,
                           const CallOptions& options) {
  constexpr std::string_view kCommand = "guest-exec";
  json::array words(request.arguments.begin(), request.arguments.end());
  json::object arguments{
      {"path", request.path}, {"arg", std::move(words)}, {"capture-output", true}};
  if (!request.input.empty()) {
    arguments["input-data"] = base64_encode(std::as_bytes(std::span(request.input)));
  }
  const auto reply = agent_object(channel, kCommand, std::move(arguments), options);
  if (!reply) {
    return std::unexpected(reply.error());
  }
  const auto pid = int_member(*reply, "pid", 1, std::numeric_limits<std::int64_t>::max());
  if (!pid) {
    return failed(kCommand, pid.error());
  }
  return *pid;
}

Result<std::string> output_member(const json::object& status, std::string_view key) {
  const auto text = string_member_or(status, key, "");
  if (!text) {
    return std::unexpected(text.error());
  }
  if (text->size() > base64_length(kMaxOutput)) {
    return failed(fmt::format("\"{}\"", key), Errc::too_large,
                  fmt::format("over {} bytes", kMaxOutput));
  }
  auto bytes = base64_decode(*text);
  if (!bytes) {
    return failed(fmt::format("\"{}\"", key), Errc::protocol, "not base64");
  }
  return std::move(*bytes);
}

/// How the program ended, from a status that says it did.
Result<ExecResult> parse_end(const json::object& status) {
  const auto exit_code =
      optional_int_member(status, "exitcode", 0, std::numeric_limits<int>::max());
  const auto signal = optional_int_member(status, "signal", 1, kMaxSignal);
  if (!exit_code || !signal) {
    return std::unexpected(exit_code ? signal.error() : exit_code.error());
  }
  if (exit_code->has_value() == signal->has_value()) {
    return std::unexpected(
        Error{.code = Errc::protocol, .what = "not exactly one of \"exitcode\" and \"signal\""});
  }
  const auto out_truncated = bool_member_or(status, "out-truncated", false);
  const auto err_truncated = bool_member_or(status, "err-truncated", false);
  if (!out_truncated || !err_truncated) {
    return std::unexpected(out_truncated ? err_truncated.error() : out_truncated.error());
  }
  auto out = output_member(status, "out-data");
  auto err = output_member(status, "err-data");
  if (!out || !err) {
    return std::unexpected(out ? err.error() : out.error());
  }
  ExecResult result{.exit_code = {},
                    .signal = {},
                    .out = std::move(*out),
                    .err = std::move(*err),
                    .truncated = *out_truncated || *err_truncated};
  if (*exit_code) {
    result.exit_code = static_cast<int>(**exit_code);
  } else {
    result.signal = static_cast<int>(**signal);
  }
  return result;
}

/// One guest-exec-status: the end of the program, or nothing while it runs.
Result<std::optional<ExecResult>> poll(Channel& channel, std::int64_t pid,
                                       const CallOptions& options) {
  constexpr std::string_view kCommand = "guest-exec-status";
  const auto status = agent_object(channel, kCommand, {{"pid", pid}}, options);
  if (!status) {
    return std::unexpected(status.error());
  }
  const auto exited = bool_member(*status, "exited");
  if (!exited) {
    return failed(kCommand, exited.error());
  }
  if (!*exited) {
    return std::nullopt;
  }
  auto end = parse_end(*status);
  if (!end) {
    return failed(kCommand, std::move(end.error()));
  }
  return std::move(*end);
}

/// Waits, or less when the token fires.
void pause(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any condition;
  std::unique_lock lock(mutex);
  condition.wait_for(lock, stop, duration, [] { return false; });
}

}  // namespace

Result<ExecResult> GuestAgent::exec(const ExecRequest& request, const CallOptions& options) {
  const std::string attempted = fmt::format("run {} in the guest", printable(request.path));
  if (request.input.size() > kMaxInput) {
    return failed(attempted, Errc::argument, fmt::format("the input is over {} bytes", kMaxInput));
  }
  const Clock::time_point deadline =
      Clock::now() + std::clamp(options.timeout, milliseconds(0), kLongestRun);
  const auto pid = start(channel_, request, options);
  if (!pid) {
    return failed(attempted, pid.error());
  }
  const auto left = [deadline] { return std::chrono::ceil<milliseconds>(deadline - Clock::now()); };
  for (milliseconds wait = kFirstPoll;; wait = std::min(wait * 2, kLongestPoll)) {
    pause(std::min(wait, left()), options.stop);
    if (options.stop.stop_requested()) {
      return failed(attempted, Errc::cancelled,
                    fmt::format("cancelled; it may go on as process {}", *pid));
    }
    if (left() <= milliseconds(0)) {
      return failed(attempted, Errc::timeout,
                    fmt::format("no end within {} ms; it may go on as process {}",
                                options.timeout.count(), *pid));
    }
    auto end = poll(channel_, *pid, {.timeout = left(), .stop = options.stop});
    if (!end) {
      return failed(attempted, std::move(end.error()));
    }
    if (std::optional<ExecResult>& result = *end) {
      return std::move(*result);
    }
  }
}

}  // namespace vpatch::qmp
