// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout_preview.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/cli/rollout_drive.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/fleet/preview.h"

namespace vpatch {
namespace {

namespace json = boost::json;
using fleet::RolloutDomain;
using rollout::DomainState;

std::string wave_name(std::uint32_t wave) {
  return wave == 0 ? "canary" : fmt::format("wave {}", wave);
}

/// "bash (1234): on-stack", the first of those who would block.
std::string blockers_text(const json::object& report) {
  const json::value* blockers = report.if_contains("blockers");
  if (blockers == nullptr || !blockers->is_object()) {
    return {};
  }
  const std::uint64_t count = fleet::number_member(blockers->get_object(), "count");
  if (count == 0) {
    return {};
  }
  std::string names;
  std::size_t named = 0;
  for (const json::value& each : fleet::array_member(blockers->get_object(), "tasks")) {
    if (!each.is_object() || named == 3) {
      break;
    }
    const json::object& task = each.get_object();
    names +=
        fmt::format("{}{} ({}): {}", named++ == 0 ? "" : ", ", fleet::text_member(task, "name"),
                    fleet::number_member(task, "tid"), fleet::text_member(task, "reason"));
  }
  return fmt::format("{} would hold it up now: {}{}", count, names, count > named ? ", ..." : "");
}

std::vector<std::string> findings_of(const json::object& report) {
  std::vector<std::string> texts;
  for (const json::value& each : fleet::array_member(report, "findings")) {
    if (each.is_object()) {
      texts.push_back(fmt::format("{}: {}", fleet::text_member(each.get_object(), "severity"),
                                  fleet::text_member(each.get_object(), "text")));
    }
  }
  return texts;
}

json::object domain_json(const fleet::NewRollout& rollout, const RolloutDomain& domain,
                         const std::optional<fleet::VerbAnswer>& answer) {
  return {{"name", domain.name},
          {"connection", domain.connection},
          {"identity", domain.identity},
          {"release", domain.release},
          {"wave", domain.wave},
          {"state", rollout::to_string(domain.record.state)},
          {"text", answer ? answer->text : domain.record.text},
          {"file", domain.file ? json::value(rollout.files[*domain.file].path) : json::value()},
          {"preflight",
           answer && !answer->report.empty() ? json::value(answer->report) : json::value()}};
}

std::string domain_text(const fleet::NewRollout& rollout, const RolloutDomain& domain,
                        const std::optional<fleet::VerbAnswer>& answer) {
  const std::string file = domain.file ? rollout.files[*domain.file].patch : "no file";
  std::string text = fmt::format("  {:20} {:28} {:16} {}\n", harmless(domain.name),
                                 harmless(domain.release.empty() ? "?" : domain.release), file,
                                 harmless(answer ? answer->text : domain.record.text));
  if (answer) {
    if (const std::string blockers = blockers_text(answer->report); !blockers.empty()) {
      text += "      " + harmless(blockers) + "\n";
    }
    for (const std::string& finding : findings_of(answer->report)) {
      text += "      " + harmless(finding) + "\n";
    }
  }
  return text;
}

}  // namespace

Result<Outcome> show_preview(const rollout::Plan& plan, const fleet::Gathered& gathered,
                             const Options& options, const Interrupt& interrupt) {
  const fleet::NewRollout& rollout = gathered.rollout;
  std::vector<std::optional<fleet::VerbAnswer>> answers(rollout.domains.size());
  TerminalReporter reporter(Style(false), is_live(stderr),
                            options.json ? Telling::nothing : Telling::text);
  std::size_t told = 0;
  auto done = fleet::preview(plan, gathered, own_program(), interrupt.token(),
                             [&](const fleet::Preview& one) {
                               answers[one.domain] = one.answer;
                               reporter.progress(fmt::format("{} domains looked at", ++told));
                             });
  reporter.finish();
  if (!done) {
    return std::unexpected(std::move(done.error()));
  }
  const bool refused =
      std::ranges::any_of(answers, [](const auto& answer) { return answer && !answer->done(); });
  if (options.json) {
    json::array domains;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      domains.push_back(domain_json(rollout, rollout.domains[i], answers[i]));
    }
    const json::object all{
        {"schema", 1},
        {"verb", "rollout start"},
        {"name", rollout.name},
        {"dry_run", true},
        {"plan", rollout.plan},
        {"warnings", json::array(gathered.warnings.begin(), gathered.warnings.end())},
        {"domains", std::move(domains)}};
    write_text(stdout, json::serialize(all) + "\n");
    return refused ? Outcome::refused : Outcome::done;
  }
  std::optional<std::pair<std::uint32_t, bool>> shown;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const RolloutDomain& domain = rollout.domains[i];
    const bool left = domain.record.state != DomainState::waiting;
    if (shown != std::pair(domain.wave, left)) {
      shown = std::pair(domain.wave, left);
      write_text(stdout, left ? std::string("left out, and reported\n")
                              : fmt::format("{}\n", wave_name(domain.wave)));
    }
    write_text(stdout, domain_text(rollout, domain, answers[i]));
  }
  write_text(stdout,
             refused ? "some would be refused; nothing was changed\n" : "nothing was changed\n");
  return refused ? Outcome::refused : Outcome::done;
}

}  // namespace vpatch
