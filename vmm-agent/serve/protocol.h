// SPDX-License-Identifier: Apache-2.0
// What the driver of a rollout and `vpatch serve --stdio` say to each other: JSON-RPC 2.0, one JSON
// object a line. docs/serve.md has all of it. Nothing here does I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include <boost/json.hpp>

namespace vpatch::serve {

/// The version of the protocol, of `hello`.
inline constexpr std::int64_t kVersion = 1;
/// The longest line in either direction, in bytes without its end: a livepatch travels in one.
inline constexpr std::size_t kMaxLine = std::size_t{64} << 20;
/// The largest id of a request: what every JSON library keeps exactly.
inline constexpr std::int64_t kMaxId = (std::int64_t{1} << 53) - 1;

/// The code of an error answer. After child_failed the guest must be looked at; after all others
/// nothing was begun.
enum class ErrorCode : std::int32_t {
  parse = -32700,  ///< the line is no JSON object, or over a limit
  invalid_request = -32600,
  unknown_method = -32601,
  invalid_params = -32602,
  not_greeted = -32000,      ///< the first request was not `hello`
  unknown_version = -32001,  ///< of the protocol
  busy = -32002,             ///< too many requests run
  child_failed = -32003,     ///< the process that did the work died, or printed no result
  cannot_start = -32004,     ///< the process that does the work
};

struct Request {
  std::int64_t id = 0;
  std::string method;
  boost::json::object params;
};

struct Notification {
  std::string method;
  boost::json::object params;
};

/// An error answer, or why a line is no message: `id` is then that of the request, where it is
/// known.
struct Failure {
  ErrorCode code = ErrorCode::invalid_request;
  std::string text;
  std::optional<std::int64_t> id{};
};

struct Answer {
  std::optional<std::int64_t> id;  ///< none: the peer could not read the request's
  std::expected<boost::json::object, Failure> result;
};

using Message = std::variant<Request, Notification, Answer>;

/// Takes a line apart. Members that JSON-RPC does not know are passed over.
std::expected<Message, Failure> parse_message(std::string_view line);

// Each gives the line with its end.
std::string format_request(std::int64_t id, std::string_view method, boost::json::object params);
std::string format_notification(std::string_view method, boost::json::object params);
std::string format_result(std::int64_t id, boost::json::object result);
std::string format_failure(const Failure& failure);

/// Text from outside as a person may read it on a terminal: valid UTF-8, with '?' for each control
/// character and for each byte that is no UTF-8, and at most `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = 1000);

/// The same for each text in a value, names of members included; they are not cut.
boost::json::value printable_value(const boost::json::value& value);

/// Makes lines of bytes as they come in.
class LineSplitter {
 public:
  enum class TooLong : std::uint8_t {
    fails,  ///< and nothing is taken in any more
    cut,    ///< the rest of the line is dropped
  };

  explicit LineSplitter(std::size_t max_line, TooLong too_long = TooLong::fails)
      : max_line_(max_line), too_long_(too_long) {}

  /// Gives each line that ends in `bytes` to `on_line`, without its end, unless it is empty.
  /// `on_line` says whether to go on. False when it did not, or a line was too long.
  bool feed(std::string_view bytes, const std::function<bool(std::string_view)>& on_line);

  /// What has come in of a line without an end.
  const std::string& rest() const { return line_; }

 private:
  bool append(std::string_view piece);

  std::size_t max_line_;
  TooLong too_long_;
  std::string line_;
};

}  // namespace vpatch::serve
