// SPDX-License-Identifier: Apache-2.0
#include "qmp/event.h"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "qmp/message.h"

namespace vpatch::qmp {
namespace {

namespace json = boost::json;

constexpr std::int64_t kMaxSeconds = std::int64_t{1} << 40;

Result<std::chrono::microseconds> parse_timestamp(const json::object& message) {
  const json::value* member = message.if_contains("timestamp");
  const json::object* timestamp = member == nullptr ? nullptr : member->if_object();
  if (timestamp == nullptr) {
    return std::unexpected(
        Error{.code = Errc::protocol, .what = "\"timestamp\" is missing or not an object"});
  }
  const auto seconds = int_member(*timestamp, "seconds", -1, kMaxSeconds);
  const auto micros = int_member(*timestamp, "microseconds", -1, 999'999);
  if (!seconds || !micros) {
    return std::unexpected(seconds ? micros.error() : seconds.error());
  }
  if (*seconds < 0 || *micros < 0) {  // both are -1 when QEMU could not read its clock
    return std::chrono::microseconds(0);
  }
  return std::chrono::seconds(*seconds) + std::chrono::microseconds(*micros);
}

}  // namespace

Result<Event> parse_event(json::object& message) {
  const auto name = string_member(message, "event");
  if (!name) {
    return failed("an event", name.error());
  }
  const std::string attempted = fmt::format("event {}", printable(*name, 60));
  const auto timestamp = parse_timestamp(message);
  if (!timestamp) {
    return failed(attempted, timestamp.error());
  }
  Event event{.name = std::string(*name), .data = {}, .timestamp = *timestamp};
  if (json::value* data = message.if_contains("data")) {
    if (!data->is_object()) {
      return failed(attempted, Errc::protocol, "\"data\" is not an object");
    }
    event.data = std::move(data->get_object());
  }
  return event;
}

}  // namespace vpatch::qmp
