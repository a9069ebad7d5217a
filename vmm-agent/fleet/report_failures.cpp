// SPDX-License-Identifier: Apache-2.0
#include <iterator>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/report_parts.h"
#include "vmm-agent/fleet/verb_answer.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;

constexpr std::size_t kDomainsInFull = 200;
constexpr std::size_t kFindings = 20;
constexpr std::size_t kTasks = 16;
constexpr std::size_t kFrames = 64;
constexpr std::size_t kLogLines = 200;

/// The text of a member, as content; empty when it is none.
std::string text_in(const json::object& object, std::string_view key) {
  return page_text(text_member(object, key));
}

const json::array* list_in(const json::object& object, std::string_view key) {
  const json::array& list = array_member(object, key);
  return list.empty() ? nullptr : &list;
}

void append_more(std::string& page, std::size_t all, std::size_t shown) {
  if (all > shown) {
    fmt::format_to(std::back_inserter(page), "<p class=\"note\">... and {} more</p>\n",
                   all - shown);
  }
}

/// Lines of text in a block that keeps them as they are.
void append_lines(std::string& page, const json::array& lines, std::size_t limit) {
  page += "<pre>";
  for (std::size_t index = 0; index < std::min(lines.size(), limit); ++index) {
    if (lines[index].is_string()) {
      page += page_text(lines[index].get_string()) + '\n';
    }
  }
  page += "</pre>\n";
  append_more(page, lines.size(), limit);
}

void append_findings(std::string& page, const json::array& findings) {
  page += "<h5>Findings</h5>\n<ul>\n";
  for (std::size_t index = 0; index < std::min(findings.size(), kFindings); ++index) {
    if (const json::object* finding = findings[index].if_object()) {
      const std::string hint = text_in(*finding, "hint");
      fmt::format_to(std::back_inserter(page),
                     "<li><strong>{}</strong> {} <code>{}</code>{}{}</li>\n",
                     text_in(*finding, "severity"), text_in(*finding, "text"),
                     text_in(*finding, "id"), hint.empty() ? "" : "<br/>", hint);
    }
  }
  page += "</ul>\n";
  append_more(page, findings.size(), kFindings);
}

void append_task(std::string& page, const json::object& task) {
  const json::value* tid = task.if_contains("tid");
  std::string number;
  if (tid != nullptr && tid->is_number()) {
    number = fmt::format(" ({})", json::serialize(*tid));
  }
  const std::string why = text_in(task, "why");
  fmt::format_to(std::back_inserter(page), "<li><strong>{}</strong>{} {}{}{}\n",
                 text_in(task, "name"), number, text_in(task, "state"), why.empty() ? "" : ": ",
                 why);
  if (const json::array* stack = list_in(task, "stack")) {
    append_lines(page, *stack, kFrames);
  }
  page += "</li>\n";
}

void append_blockers(std::string& page, const json::object& blockers) {
  const json::array* tasks = list_in(blockers, "tasks");
  if (tasks == nullptr) {
    return;
  }
  page += "<h5>Tasks that were waited for</h5>\n<ul>\n";
  for (std::size_t index = 0; index < std::min(tasks->size(), kTasks); ++index) {
    if (const json::object* task = (*tasks)[index].if_object()) {
      append_task(page, *task);
    }
  }
  page += "</ul>\n";
  const json::value* count = blockers.if_contains("count");
  boost::system::error_code error;
  const auto all = count != nullptr && count->is_number() ? count->to_number<std::uint32_t>(error)
                                                          : std::uint32_t{0};
  append_more(page, error ? 0 : all, std::min(tasks->size(), kTasks));
}

/// What was looked at in the guest, but for what is in order.
void append_checks(std::string& page, const json::array& checks) {
  page += "<h5>Checks</h5>\n<ul>\n";
  std::size_t passed = 0;
  std::size_t shown = 0;
  for (const json::value& value : checks) {
    const json::object* check = value.if_object();
    const std::string health = check == nullptr ? std::string() : text_in(*check, "health");
    if (health == "pass") {
      ++passed;
    } else if (check != nullptr && shown < kFindings) {
      fmt::format_to(std::back_inserter(page), "<li><strong>{}</strong> {}: {}</li>\n",
                     text_in(*check, "id"), health, text_in(*check, "text"));
      ++shown;
    }
  }
  fmt::format_to(std::back_inserter(page), "<li>{} in order</li>\n</ul>\n", passed);
  append_more(page, checks.size() - passed, kFindings);
}

/// Whether the verb did all that it should.
bool went_well(const json::object& report) {
  const json::value* code = report.if_contains("exit_code");
  return code != nullptr && code->is_int64() && code->get_int64() == 0;
}

void append_report(std::string& page, std::string_view title,
                   const std::optional<json::object>& stored, const std::string& known) {
  if (!stored || went_well(*stored)) {
    return;
  }
  const json::object& report = *stored;
  fmt::format_to(std::back_inserter(page), "<h4 class=\"verb\">{}</h4>\n", title);
  for (const std::string_view key : {"summary", "text", "hint"}) {
    if (const std::string text = text_in(report, key); !text.empty() && text != known) {
      fmt::format_to(std::back_inserter(page), "<p class=\"{}\">{}</p>\n", key, text);
    }
  }
  if (const json::array* findings = list_in(report, "findings")) {
    append_findings(page, *findings);
  }
  if (const json::array* checks = list_in(report, "checks")) {
    append_checks(page, *checks);
  }
  const json::value* command = report.if_contains("command");
  if (command != nullptr && command->is_object()) {
    if (const std::string output = text_in(command->get_object(), "output"); !output.empty()) {
      page += "<h5>The command's output</h5>\n<pre>" + output + "</pre>\n";
    }
  }
  const json::value* blockers = report.if_contains("blockers");
  if (blockers != nullptr && blockers->is_object()) {
    append_blockers(page, blockers->get_object());
  }
  if (const json::array* log = list_in(report, "kernel_log")) {
    page += "<h5>Kernel log</h5>\n";
    append_lines(page, *log, kLogLines);
  }
}

void append_failure(std::string& page, const RolloutDomain& domain) {
  const rollout::DomainRecord& record = domain.record;
  auto out = std::back_inserter(page);
  fmt::format_to(out, "<article class=\"failure\">\n<h3>{} {}</h3>\n", page_text(domain.name),
                 state_mark(record.state));
  fmt::format_to(out, "<p class=\"note\">{}, on {}", wave_name(domain.wave),
                 page_text(domain.connection));
  if (!domain.release.empty()) {
    fmt::format_to(out, ", kernel {}", page_text(domain.release));
  }
  if (record.outcome) {
    fmt::format_to(out, ", outcome <code>{}</code>", vpatch::to_string(*record.outcome));
  }
  page += "</p>\n";
  if (!record.text.empty()) {
    fmt::format_to(out, "<p class=\"why\">{}</p>\n", page_text(record.text));
  }
  if (record.touched) {
    page += "<p>The livepatch is in force in it, or may be.</p>\n";
  }
  const std::string known = page_text(record.text);
  append_report(page, "Apply", domain.apply_report, known);
  append_report(page, "Health check", domain.health_report, known);
  append_report(page, "Revert", domain.revert_report, known);
  page += "</article>\n";
}

bool needs_words(const RolloutDomain& domain) {
  const Group group = group_of(domain.record.state);
  return group == Group::failed || group == Group::doubtful ||
         (group == Group::reverted && domain.record.failure);
}

}  // namespace

void append_failures(std::string& page, const ReportFacts& facts) {
  std::size_t all = 0;
  for (const RolloutDomain& domain : domains_of(facts)) {
    if (!needs_words(domain)) {
      continue;
    }
    if (all == 0) {
      page += "<section>\n<h2 id=\"failures\">Failures</h2>\n";
    }
    if (all < kDomainsInFull) {
      append_failure(page, domain);
    }
    ++all;
  }
  if (all > 0) {
    append_more(page, all, kDomainsInFull);
    page += "</section>\n";
  }
}

}  // namespace vpatch::fleet
