// SPDX-License-Identifier: Apache-2.0
#pragma once

// Messages of QMP and of the guest agent as text and as JSON. Private to the library. No function
// here lets an exception out, whatever the text or the value; what a peer said is printable in our
// errors.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "qmp/error.h"
#include "qmp/limits.h"

namespace vpatch::qmp {

/// One message as a JSON object. Errc::protocol when it is not one, Errc::too_large over a limit.
Result<boost::json::object> parse_message(std::string_view text, const MessageLimits& limits);

/// The line for {"execute", "arguments", "id"}, with its line end. Errc::argument when it would not
/// be valid JSON (strings that are not UTF-8) or would be over a limit. Empty arguments are left
/// out.
Result<std::string> format_command(std::string_view command, const boost::json::object& arguments,
                                   std::optional<std::int64_t> id, const MessageLimits& limits);

/// The outcome carried by a reply to `command`: its "return", or its "error" as Errc::command.
Result<boost::json::value> reply_outcome(std::string_view command, boost::json::object& reply);

/// At most `max_length` characters of a peer's text, with every character but printable
/// ASCII made '?'.
std::string printable(std::string_view text, std::size_t max_length = 200);

/// `error` with what was being attempted in front.
std::unexpected<Error> failed(std::string_view attempted, Error error);
std::unexpected<Error> failed(std::string_view attempted, Errc code, std::string_view outcome);

/// Members of a peer's object. A member that is missing, of another type or out of bounds is
/// Errc::protocol; the optional ones may be missing, but not wrong.
Result<std::int64_t> int_member(const boost::json::object& object, std::string_view key,
                                std::int64_t min, std::int64_t max);
Result<std::optional<std::int64_t>> optional_int_member(const boost::json::object& object,
                                                        std::string_view key, std::int64_t min,
                                                        std::int64_t max);
Result<bool> bool_member(const boost::json::object& object, std::string_view key);
Result<bool> bool_member_or(const boost::json::object& object, std::string_view key, bool fallback);
/// The view is into `object`.
Result<std::string_view> string_member(const boost::json::object& object, std::string_view key);
Result<std::string_view> string_member_or(const boost::json::object& object, std::string_view key,
                                          std::string_view fallback);

}  // namespace vpatch::qmp
