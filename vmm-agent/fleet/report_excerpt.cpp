// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <vector>

#include <boost/json.hpp>

#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostFindings = 16;
constexpr std::size_t kMostBlockers = 16;
constexpr std::size_t kMostTasks = 8;
constexpr std::size_t kMostLines = 20;

bool is_change(const json::object& report) {
  const json::value* const verb = report.if_contains("verb");
  const json::string* const word = verb == nullptr ? nullptr : verb->if_string();
  return word != nullptr && (*word == "apply" || *word == "revert");
}

/// Shortens the list of that name, if it is one.
void cut(json::object& object, std::string_view name, std::size_t most) {
  json::value* const value = object.if_contains(name);
  json::array* const list = value == nullptr ? nullptr : value->if_array();
  if (list != nullptr && list->size() > most) {
    list->erase(list->begin() + static_cast<std::ptrdiff_t>(most), list->end());
  }
}

json::object* object_in(json::object& object, std::string_view name) {
  json::value* const value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_object();
}

json::object of_change(const json::object& report) {
  constexpr std::array<std::string_view, 14> kMembers = {
      "schema",   "verb",       "outcome",       "exit_code",  "summary",
      "hint",     "findings",   "blockers",      "kernel_log", "replaced",
      "unloaded", "elapsed_ms", "transition_us", "transition"};
  json::object result;
  for (const std::string_view name : kMembers) {
    if (const json::value* const value = report.if_contains(name); value != nullptr) {
      result.emplace(name, *value);
    }
  }
  cut(result, "findings", kMostFindings);
  cut(result, "kernel_log", kMostLines);
  if (json::object* const blockers = object_in(result, "blockers"); blockers != nullptr) {
    cut(*blockers, "tasks", kMostBlockers);
  }
  if (json::object* const transition = object_in(result, "transition"); transition != nullptr) {
    cut(*transition, "switched", kMostTasks);
    if (json::object* const pending = object_in(*transition, "pending"); pending != nullptr) {
      cut(*pending, "tasks", kMostTasks);
    }
  }
  return result;
}

struct Member {
  const json::object::value_type* pair;
  std::size_t size;  ///< in bytes, with its name, colon and comma

  bool is_simple() const { return !pair->value().is_structured(); }
};

json::object within_limit(json::object report) {
  std::vector<Member> members;
  std::size_t total = 2;
  for (const auto& pair : report) {
    const std::size_t size =
        json::serialize(json::string(pair.key())).size() + json::serialize(pair.value()).size() + 2;
    members.push_back({&pair, size});
    total += size;
  }
  if (total <= kLongestReport) {
    return report;
  }
  // Lists and objects go first, and of these the largest.
  std::ranges::stable_sort(members, [](const Member& one, const Member& other) {
    return one.is_simple() != other.is_simple() ? other.is_simple() : one.size > other.size;
  });
  auto kept = members.begin();
  for (; total > kLongestReport; ++kept) {
    total -= kept->size;
  }
  json::object result;
  for (; kept != members.end(); ++kept) {
    result.insert(*kept->pair);
  }
  return result;
}

}  // namespace

json::object brief(const json::object& report) {
  return within_limit(is_change(report) ? of_change(report) : report);
}

}  // namespace vpatch::fleet
