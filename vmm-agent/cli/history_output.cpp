// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/history_output.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch {
namespace {

namespace json = boost::json;

json::value or_null(const std::optional<std::uint64_t>& number) {
  return number ? json::value(*number) : json::value(nullptr);
}

/// "2026-11-21 09:41:23"
std::string short_time(const std::string& at) {
  std::string text = at.substr(0, 19);
  std::ranges::replace(text, 'T', ' ');
  return text;
}

std::string outcome_of(const StoredOperation& operation) {
  return operation.end ? std::string(to_string(operation.end->outcome)) : "no end";
}

std::string in_ms(const std::optional<std::uint64_t>& us) {
  return us ? fmt::format("{:.1f} ms", static_cast<double>(*us) / 1000) : "";
}

std::string paint(const StoredOperation& operation, const std::string& text, const Style& style) {
  if (!operation.end) {
    return style.doubtful(text);
  }
  return operation.end->outcome == Outcome::done ? style.good(text) : style.bad(text);
}

void line(std::string& out, std::string_view key, const std::string& value) {
  if (!value.empty()) {
    fmt::format_to(std::back_inserter(out), "{:<14} {}\n", key, harmless(value));
  }
}

}  // namespace

json::object to_json(const StoredOperation& operation) {
  const OperationStart& start = operation.start;
  json::object object{{"id", std::to_underlying(operation.id)},
                      {"started_at", operation.started_at},
                      {"ended_at", operation.end ? json::value(operation.ended_at) : nullptr},
                      {"user", operation.user},
                      {"verb", start.verb},
                      {"domain", start.domain},
                      {"identity", start.identity},
                      {"patch", start.patch},
                      {"patch_version", start.patch_version},
                      {"patch_build_id", start.patch_build_id},
                      {"file_sha256", start.file_sha256},
                      {"vpatch_version", start.vpatch_version},
                      {"guest_release", start.guest_release},
                      {"boot_id", start.boot_id},
                      {"outcome", nullptr}};
  if (operation.end) {
    const OperationEnd& end = *operation.end;
    object["outcome"] = to_string(end.outcome);
    object["summary"] = end.summary;
    object["transition_us"] = or_null(end.transition_us);
    object["pause_us"] = or_null(end.pause_us);
    object["pauses"] = end.pauses;
    object["retries"] = end.retries;
    object["signals"] = end.signals;
    object["switches"] = end.switches;
  }
  return object;
}

json::object to_json(const StoredEvent& event) {
  return {{"sequence", event.sequence},
          {"at", event.at},
          {"kind", event.kind},
          {"detail", event.detail}};
}

json::object to_json(const Verification& verification) {
  json::array problems;
  for (const std::string& problem : verification.problems) {
    problems.emplace_back(problem);
  }
  return {{"sound", verification.sound()},
          {"entries", verification.entries},
          {"head", verification.head},
          {"problems", std::move(problems)},
          {"more_problems", verification.more_problems}};
}

std::string render(const std::vector<StoredOperation>& operations, const Style& style) {
  if (operations.empty()) {
    return "no operations\n";
  }
  using Row = std::array<std::string, 8>;
  std::vector<Row> rows = {
      {"ID", "STARTED (UTC)", "USER", "DOMAIN", "VERB", "PATCH", "OUTCOME", "TRANSITION"}};
  for (const StoredOperation& operation : operations) {
    const OperationStart& start = operation.start;
    rows.push_back({std::to_string(std::to_underlying(operation.id)),
                    short_time(operation.started_at), harmless(operation.user),
                    harmless(start.domain), harmless(start.verb), harmless(start.patch),
                    outcome_of(operation),
                    operation.end ? in_ms(operation.end->transition_us) : ""});
  }
  std::array<std::size_t, 8> widths{};
  for (const Row& row : rows) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  constexpr std::size_t kOutcome = 6;
  std::string out;
  for (std::size_t index = 0; index < rows.size(); ++index) {
    std::string text;
    for (std::size_t column = 0; column < widths.size(); ++column) {
      const std::string cell = fmt::format("{:<{}}", rows[index][column], widths[column]);
      text += index > 0 && column == kOutcome ? paint(operations[index - 1], cell, style) : cell;
      text += "  ";
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  }
  return out;
}

std::string render(const StoredOperation& operation, const std::vector<StoredEvent>& events,
                   const Style& style) {
  const OperationStart& start = operation.start;
  std::string out;
  line(out, "operation", std::to_string(std::to_underlying(operation.id)));
  line(out, "verb", start.verb);
  line(out, "domain", start.domain);
  line(out, "identity", start.identity);
  line(out, "user", operation.user);
  line(out, "started", operation.started_at);
  line(out, "ended", operation.ended_at);
  line(out, "patch", start.patch);
  line(out, "patch version", start.patch_version);
  line(out, "build id", start.patch_build_id);
  line(out, "file sha256", start.file_sha256);
  line(out, "vpatch", start.vpatch_version);
  line(out, "kernel", start.guest_release);
  line(out, "boot id", start.boot_id);
  if (operation.end) {
    line(out, "transition", in_ms(operation.end->transition_us));
    line(out, "paused", in_ms(operation.end->pause_us));
    line(out, "summary", operation.end->summary);
  }
  fmt::format_to(std::back_inserter(out), "{:<14} {}\n\n", "outcome",
                 paint(operation, outcome_of(operation), style));
  for (const StoredEvent& event : events) {
    const json::value* text = event.detail.if_contains("text");
    fmt::format_to(std::back_inserter(out), "{}  {:<10} {}\n", event.at.substr(0, 23),
                   harmless(event.kind),
                   harmless(text != nullptr && text->is_string() ? std::string(text->get_string())
                                                                 : json::serialize(event.detail)));
  }
  return out;
}

std::string render(const Verification& verification, const std::string& what, const Style& style) {
  std::string out;
  for (const std::string& problem : verification.problems) {
    fmt::format_to(std::back_inserter(out), "{} {}\n", style.bad("damaged:"), harmless(problem));
  }
  if (verification.more_problems > 0) {
    fmt::format_to(std::back_inserter(out), "and {} more\n", verification.more_problems);
  }
  fmt::format_to(std::back_inserter(out), "{}: {} entries, head {}{}\n", harmless(what),
                 verification.entries, verification.head,
                 verification.sound() ? ": " + style.good("sound") : "");
  return out;
}

}  // namespace vpatch
