// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/verb_answer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/operation/context.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using Health = rollout::HealthVerdict::Health;

constexpr std::array kOutcomes = {
    Outcome::done,        Outcome::usage,           Outcome::refused,
    Outcome::unreachable, Outcome::stalled_waiting, Outcome::stalled_reverted,
    Outcome::unrecorded,  Outcome::failed_restored, Outcome::failed_needs_look,
};

/// In one guest, and bytes of a name or an id in it: more are no truth.
constexpr std::size_t kMostPatches = 256;
constexpr std::size_t kLongestWord = 128;

std::string short_member(const json::object& object, std::string_view key) {
  return serve::printable(text_member(object, key), kLongestWord);
}

Outcome outcome_of(const json::object& result) {
  const json::value* code = result.if_contains("exit_code");
  const std::int64_t* number = code == nullptr ? nullptr : code->if_int64();
  for (const Outcome outcome : kOutcomes) {
    if (number != nullptr && *number == static_cast<std::int64_t>(outcome)) {
      return outcome;
    }
  }
  return Outcome::internal;
}

std::string first_of(std::initializer_list<std::string> texts) {
  for (const std::string& text : texts) {
    if (!text.empty()) {
      return text;
    }
  }
  return {};
}

Health health_of(const VerbAnswer& answer) {
  const std::string word = text_member(answer.report, "health");
  if (word == "pass" && answer.done()) {
    return Health::pass;
  }
  return word == "fail" ? Health::fail : Health::inconclusive;
}

}  // namespace

std::string text_member(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains({key.data(), key.size()});
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

std::uint64_t number_member(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || !value->is_number()) {
    return 0;
  }
  boost::system::error_code wrong;
  const auto number = value->to_number<std::uint64_t>(wrong);
  return wrong ? 0 : number;
}

bool flag_member(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains({key.data(), key.size()});
  return value != nullptr && value->is_bool() && value->get_bool();
}

const json::array& array_member(const json::object& object, std::string_view key) {
  static const json::array kNone;
  const json::value* value = object.if_contains({key.data(), key.size()});
  const json::array* array = value == nullptr ? nullptr : value->if_array();
  return array == nullptr ? kNone : *array;
}

bool has_finding(const json::object& report, std::string_view id) {
  return std::ranges::any_of(array_member(report, "findings"), [id](const json::value& finding) {
    return finding.is_object() && text_member(finding.get_object(), "id") == id;
  });
}

Outcome outcome_of_change(const VerbAnswer& answer) {
  const bool in_doubt =
      answer.outcome == Outcome::failed_needs_look && has_finding(answer.report, kUnseen);
  return in_doubt ? Outcome::unreachable : answer.outcome;
}

VerbAnswer answer_of(serve::Client::Reply reply) {
  if (!reply) {
    return {reply.error().outcome, std::move(reply.error().what)};
  }
  VerbAnswer answer{.outcome = outcome_of(*reply)};
  if (json::value* report = reply->if_contains("report"); report != nullptr) {
    if (json::object* object = report->if_object(); object != nullptr) {
      answer.report = std::move(*object);
    }
  }
  answer.text = first_of({text_member(answer.report, "summary"), text_member(answer.report, "text"),
                          text_member(*reply, "errors")});
  answer.text = serve::printable(answer.text);
  if (answer.text.empty() && !answer.done()) {
    answer.text = fmt::format("it ended as {} and said nothing", to_string(answer.outcome));
  }
  return answer;
}

GuestLook guest_of(const VerbAnswer& answer) {
  const json::object& report = answer.report;
  const std::string state = text_member(report, "state");
  GuestLook guest{.health = health_of(answer), .text = answer.text};
  guest.held = state.starts_with("paused");
  guest.off = state == "shut off" || state == "crashed";
  const json::value* taint = report.if_contains("taint");
  guest.read = taint != nullptr && taint->is_number();  // null when memory could not be read
  guest.busy = !text_member(report, "busy").empty();
  for (const json::value& each : array_member(report, "patches")) {
    const json::object* patch = each.if_object();
    if (patch == nullptr) {
      continue;
    }
    if (guest.patches.size() == kMostPatches) {
      break;
    }
    const bool moves = flag_member(*patch, "transition");
    guest.busy = guest.busy || moves;
    guest.patches.push_back({.name = short_member(*patch, "name"),
                             .build_id = short_member(*patch, "build_id"),
                             .in_force = !moves && text_member(*patch, "phase") == "patched"});
  }
  guest.mark = {.boot_id = short_member(report, "boot_id"),
                .log_sequence = number_member(report, "log_sequence"),
                .taint = number_member(report, "taint")};
  return guest;
}

}  // namespace vpatch::fleet
