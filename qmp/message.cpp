// SPDX-License-Identifier: Apache-2.0
#include "qmp/message.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/format.h>

namespace vpatch::qmp {
namespace {

namespace json = boost::json;

constexpr std::size_t kExcerpt = 60;

std::unexpected<Error> protocol_error(std::string what) {
  return std::unexpected(Error{.code = Errc::protocol, .what = std::move(what)});
}

/// No more values can be in `text` than it has separators and brackets; those inside strings count
/// too, which only makes the bound stricter.
bool fits_value_limit(std::string_view text, const MessageLimits& limits) {
  const auto marks =
      std::ranges::count_if(text, [](char c) { return c == ',' || c == '[' || c == '{'; });
  return static_cast<std::size_t>(marks) < limits.max_values;
}

json::parse_options depth_option(const MessageLimits& limits) {
  json::parse_options options;
  options.max_depth = limits.max_depth;
  return options;
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

Result<json::object> parse_message(std::string_view text, const MessageLimits& limits) try {
  if (text.size() > limits.max_bytes || !fits_value_limit(text, limits)) {
    return std::unexpected(
        Error{.code = Errc::too_large,
              .what = fmt::format("a message of {} bytes is over the limit", text.size())});
  }
  boost::system::error_code ec;
  json::value value = json::parse({text.data(), text.size()}, ec, {}, depth_option(limits));
  if (ec) {
    return protocol_error(fmt::format("a message is not valid JSON ({}): \"{}\"", ec.message(),
                                      printable(text, kExcerpt)));
  }
  json::object* object = value.if_object();
  if (object == nullptr) {
    return protocol_error(
        fmt::format("a message is not a JSON object: \"{}\"", printable(text, kExcerpt)));
  }
  return std::move(*object);
} catch (const std::exception&) {  // out of memory, or a length the JSON library refuses
  return std::unexpected(
      Error{.code = Errc::too_large,
            .what = fmt::format("a message of {} bytes cannot be held", text.size())});
}

Result<std::string> format_command(std::string_view command, const json::object& arguments,
                                   std::optional<std::int64_t> id,
                                   const MessageLimits& limits) try {
  json::object message;
  message["execute"] = json::string_view(command.data(), command.size());
  if (!arguments.empty()) {
    message["arguments"] = arguments;
  }
  if (id) {
    message["id"] = *id;
  }
  std::string line = json::serialize(message);
  if (line.size() > limits.max_bytes) {
    return failed(command, Errc::argument,
                  fmt::format("the command's {} bytes are over the limit", line.size()));
  }
  // The serializer passes bytes on as they are. A peer that meets invalid UTF-8 answers without an
  // id or drops the connection, so such a command must not leave.
  if (!is_ascii(line)) {
    boost::system::error_code ec;
    json::parse(line, ec, {}, depth_option(limits));
    if (ec) {
      return failed(command, Errc::argument,
                    "the arguments are not valid JSON (text must be UTF-8)");
    }
  }
  line += '\n';
  return line;
} catch (const std::exception& e) {
  return failed(command, Errc::argument,
                fmt::format("the arguments cannot be written as JSON: {}", e.what()));
}

Result<json::value> reply_outcome(std::string_view command, json::object& reply) {
  json::value* returned = reply.if_contains("return");
  json::value* error = reply.if_contains("error");
  if ((returned == nullptr) == (error == nullptr)) {
    return failed(command, Errc::protocol,
                  "the reply has not exactly one of \"return\" and \"error\"");
  }
  if (returned != nullptr) {
    return std::move(*returned);
  }
  const json::object* details = error->if_object();
  if (details == nullptr) {
    return failed(command, Errc::protocol, "the reply's \"error\" is not an object");
  }
  const auto error_class = string_member(*details, "class");
  const auto description = string_member(*details, "desc");
  if (!error_class || !description) {
    return failed(command, Errc::protocol, "the reply's \"error\" has no class or no description");
  }
  return std::unexpected(Error{.code = Errc::command,
                               .what = fmt::format("{}: {}", command, printable(*description)),
                               .error_class = printable(*error_class, kExcerpt)});
}

std::string printable(std::string_view text, std::size_t max_length) {
  const bool cut = text.size() > max_length;
  std::string clean(text.substr(0, max_length));
  // One mark for a character of several bytes.
  std::erase_if(clean, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; });
  std::ranges::replace_if(clean, [](char c) { return c < 0x20 || c > 0x7E; }, '?');
  return cut ? clean + "..." : clean;
}

std::unexpected<Error> failed(std::string_view attempted, Error error) {
  error.what = fmt::format("{}: {}", attempted, error.what);
  return std::unexpected(std::move(error));
}

std::unexpected<Error> failed(std::string_view attempted, Errc code, std::string_view outcome) {
  return std::unexpected(Error{.code = code, .what = fmt::format("{}: {}", attempted, outcome)});
}

Result<std::optional<std::int64_t>> optional_int_member(const json::object& object,
                                                        std::string_view key, std::int64_t min,
                                                        std::int64_t max) {
  const json::value* member = object.if_contains({key.data(), key.size()});
  if (member == nullptr) {
    return std::nullopt;
  }
  // A number over INT64_MAX parses as uint64 and one with a fraction as double: neither is meant.
  const std::int64_t* number = member->if_int64();
  if (number == nullptr || *number < min || *number > max) {
    return protocol_error(fmt::format("\"{}\" is not an integer in {}..{}", key, min, max));
  }
  return *number;
}

Result<std::int64_t> int_member(const json::object& object, std::string_view key, std::int64_t min,
                                std::int64_t max) {
  const auto number = optional_int_member(object, key, min, max);
  if (!number) {
    return std::unexpected(number.error());
  }
  const std::optional<std::int64_t>& present = *number;
  if (!present) {
    return protocol_error(fmt::format("\"{}\" is missing", key));
  }
  return *present;
}

Result<bool> bool_member(const json::object& object, std::string_view key) {
  const json::value* member = object.if_contains({key.data(), key.size()});
  const bool* flag = member == nullptr ? nullptr : member->if_bool();
  if (flag == nullptr) {
    return protocol_error(fmt::format("\"{}\" is missing or not a boolean", key));
  }
  return *flag;
}

Result<bool> bool_member_or(const json::object& object, std::string_view key, bool fallback) {
  return object.contains({key.data(), key.size()}) ? bool_member(object, key) : fallback;
}

Result<std::string_view> string_member(const json::object& object, std::string_view key) {
  const json::value* member = object.if_contains({key.data(), key.size()});
  const json::string* text = member == nullptr ? nullptr : member->if_string();
  if (text == nullptr) {
    return protocol_error(fmt::format("\"{}\" is missing or not a string", key));
  }
  return std::string_view(text->data(), text->size());
}

Result<std::string_view> string_member_or(const json::object& object, std::string_view key,
                                          std::string_view fallback) {
  return object.contains({key.data(), key.size()}) ? string_member(object, key) : fallback;
}

}  // namespace vpatch::qmp
