// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/protocol.h"

#include <algorithm>
#include <utility>

#include "qmp/message.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;

constexpr qmp::MessageLimits kLimits{
    .max_bytes = kMaxLine, .max_depth = 32, .max_values = std::size_t{1} << 20};
constexpr std::size_t kMaxMethod = 64;
constexpr std::size_t kMaxText = 8192;  ///< of a failure, in bytes

std::unexpected<Failure> invalid(std::string text, std::optional<std::int64_t> id = {}) {
  return std::unexpected(Failure{ErrorCode::invalid_request, std::move(text), id});
}

std::string line_of(json::object message) {
  message["jsonrpc"] = "2.0";
  return json::serialize(message) + "\n";
}

/// The id of a message: nothing when it has none or null.
std::expected<std::optional<std::int64_t>, Failure> id_of(const json::object& message) {
  const json::value* id = message.if_contains("id");
  if (id == nullptr || id->is_null()) {
    return std::nullopt;
  }
  const auto number = qmp::int_member(message, "id", 1, kMaxId);
  if (!number) {
    return invalid(number.error().what);
  }
  return *number;
}

std::expected<json::object, Failure> params_of(json::object& message,
                                               std::optional<std::int64_t> id) {
  json::value* params = message.if_contains("params");
  if (params == nullptr) {
    return json::object{};
  }
  if (!params->is_object()) {
    return invalid("\"params\" is not an object", id);
  }
  return std::move(params->get_object());
}

std::expected<Message, Failure> parse_call(json::object& message, std::optional<std::int64_t> id) {
  const auto method = qmp::string_member(message, "method");
  if (!method || method->empty() || method->size() > kMaxMethod) {
    return invalid("\"method\" is not a string of 1 to 64 bytes", id);
  }
  std::string name(*method);
  auto params = params_of(message, id);
  if (!params) {
    return std::unexpected(std::move(params.error()));
  }
  if (message.contains("id") && !id) {
    return invalid("\"id\" of a request is null");
  }
  if (!id) {
    return Notification{std::move(name), *std::move(params)};
  }
  return Request{*id, std::move(name), *std::move(params)};
}

std::expected<Message, Failure> parse_answer(json::object& message,
                                             std::optional<std::int64_t> id) {
  json::value* result = message.if_contains("result");
  const json::value* error = message.if_contains("error");
  if ((result == nullptr) == (error == nullptr)) {
    return invalid("neither a method, nor exactly one of result and error", id);
  }
  if (result != nullptr) {
    if (!result->is_object() || !id) {
      return invalid("an answer's \"result\" is not an object, or has no id", id);
    }
    return Answer{id, std::move(result->get_object())};
  }
  const json::object* failure = error->if_object();
  if (failure == nullptr) {
    return invalid("an answer's \"error\" is not an object", id);
  }
  const auto code = qmp::int_member(*failure, "code", -40'000, 40'000);
  const auto text = qmp::string_member(*failure, "message");
  if (!code || !text) {
    return invalid("an answer's \"error\" has no code or no message", id);
  }
  return Answer{id, std::unexpected(Failure{static_cast<ErrorCode>(*code),
                                            serve::printable(*text, kMaxText), id})};
}

/// How many bytes the UTF-8 character at the beginning of `text` has; 0 when it is none.
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) {
    return 1;
  }
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) {
      return 0;
    }
  }
  const unsigned second = byte(1);
  const bool bad = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                   (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return bad ? 0 : length;
}

/// ASCII's control characters, and Unicode's other 32, which some terminals obey too.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  return first < 0x20 || first == 0x7F ||
         (first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
}

std::string_view view_of(json::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

std::expected<Message, Failure> parse_message(std::string_view line) {
  auto message = qmp::parse_message(line, kLimits);
  if (!message) {
    return std::unexpected(Failure{ErrorCode::parse, std::move(message.error().what)});
  }
  const auto id = id_of(*message);
  if (!id) {
    return std::unexpected(id.error());
  }
  const auto version = qmp::string_member(*message, "jsonrpc");
  if (!version || *version != "2.0") {
    return invalid("\"jsonrpc\" is not \"2.0\"", *id);
  }
  return message->contains("method") ? parse_call(*message, *id) : parse_answer(*message, *id);
}

std::string format_request(std::int64_t id, std::string_view method, json::object params) {
  return line_of({{"id", id}, {"method", method}, {"params", std::move(params)}});
}

std::string format_notification(std::string_view method, json::object params) {
  return line_of({{"method", method}, {"params", std::move(params)}});
}

std::string format_result(std::int64_t id, json::object result) {
  return line_of({{"id", id}, {"result", std::move(result)}});
}

std::string format_failure(const Failure& failure) {
  const json::value id = failure.id ? json::value(*failure.id) : json::value(nullptr);
  return line_of({{"id", id},
                  {"error", json::object{{"code", static_cast<std::int32_t>(failure.code)},
                                         {"message", printable(failure.text, kMaxText)}}}});
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
    const std::string_view shown = length == 0 || is_control(character) ? "?" : character;
    if (clean.size() + shown.size() > limit) {
      break;
    }
    clean += shown;
    text.remove_prefix(character.size());
  }
  return clean;
}

// Recurses as deep as the limits of parsing allow.
json::value printable_value(const json::value& value) {
  if (const auto* text = value.if_string()) {
    return json::value(printable(view_of(*text), text->size()));
  }
  if (const auto* array = value.if_array()) {
    json::array clean;
    clean.reserve(array->size());
    for (const json::value& item : *array) {
      clean.push_back(printable_value(item));
    }
    return clean;
  }
  if (const auto* object = value.if_object()) {
    json::object clean;
    clean.reserve(object->size());
    for (const auto& [key, item] : *object) {
      clean[printable(view_of(key), key.size())] = printable_value(item);
    }
    return clean;
  }
  return value;
}

bool LineSplitter::append(std::string_view piece) {
  const std::size_t room = max_line_ - line_.size();
  line_ += piece.substr(0, room);
  return piece.size() <= room || too_long_ == TooLong::cut;
}

bool LineSplitter::feed(std::string_view bytes,
                        const std::function<bool(std::string_view)>& on_line) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    if (!append(bytes.substr(0, end))) {
      return false;
    }
    if (end == std::string_view::npos) {
      return true;
    }
    bytes.remove_prefix(end + 1);
    const std::string line = std::exchange(line_, {});
    if (!line.empty() && !on_line(line)) {
      return false;
    }
  }
  return true;
}

}  // namespace vpatch::serve
