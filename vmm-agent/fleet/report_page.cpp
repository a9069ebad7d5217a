// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <iterator>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/report_parts.h"
#include "vmm-agent/fleet/rollout_report.h"

namespace vpatch::fleet {
namespace {

using rollout::Course;
using rollout::DomainState;

constexpr std::size_t kTableRows = 2000;

ReportFacts facts_of(const StoredRollout& rollout, const std::vector<RolloutEvent>& events,
                     Moment now) {
  ReportFacts facts{.rollout = rollout, .events = events};
  facts.summary = summary_of(rollout);
  facts.times.reserve(rollout.begin.domains.size());
  for (const RolloutDomain& domain : rollout.begin.domains) {
    facts.times.push_back(times_of(domain));
  }
  const auto ended = parse_utc(rollout.ended_at);
  facts.over = ended && rollout.record.finished;
  facts.begin = parse_utc(rollout.started_at).value_or(now);
  facts.end = std::max(facts.over ? *ended : now, facts.begin + std::chrono::seconds(1));
  return facts;
}

/// What the page may load: nothing, and of styles only the one it has.
std::string policy() {
  const std::string_view style = report_style();
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(style.data(), style.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::array<unsigned char, 2 * EVP_MAX_MD_SIZE> base64{};
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(size));
  return fmt::format(
      "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
      std::string(base64.begin(), base64.begin() + length));
}

void append_head(std::string& page, const ReportFacts& facts) {
  fmt::format_to(std::back_inserter(page),
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta "
                 "http-equiv=\"Content-Security-Policy\" content=\"{}\"/>\n<meta name=\"viewport\" "
                 "content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"referrer\" "
                 "content=\"no-referrer\"/>\n<title>{}: {}</title>\n<style>{}</style>\n</head>\n",
                 policy(), page_text(facts.rollout.begin.name), standing(facts.rollout.record),
                 report_style());
}

std::string_view mood_of(const ReportFacts& facts) {
  const rollout::RolloutRecord& record = facts.rollout.record;
  const GroupCounts counts = groups_of(facts.summary.domains);
  const bool harm = counts.at(static_cast<std::size_t>(Group::failed)) > 0 || record.paused ||
                    record.course != Course::forward;
  return harm ? "s-bad" : record.finished ? "s-good" : "s-open";
}

/// Patterns on top of colours, so that bars can be told apart without these.
constexpr std::string_view kPatterns =
    "<svg class=\"defs\" aria-hidden=\"true\"><defs>"
    "<pattern id=\"p-reverted\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
    "<path class=\"p\" d=\"M0 6L6 0\"/></pattern>"
    "<pattern id=\"p-failed\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
    "<path class=\"p\" d=\"M0 0L6 6M0 6L6 0\"/></pattern>"
    "<pattern id=\"p-doubtful\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">"
    "<path class=\"p\" d=\"M1 2.5H3\"/></pattern>"
    "<pattern id=\"p-left_out\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
    "<path class=\"q\" d=\"M0 8L8 0\"/></pattern>"
    "</defs></svg>\n";

void append_opening(std::string& page, const ReportFacts& facts, bool failures) {
  fmt::format_to(std::back_inserter(page),
                 "<header>\n<h1>Rollout {}</h1>\n<p class=\"outcome {}\">{}</p>\n",
                 page_text(facts.rollout.begin.name), mood_of(facts),
                 page_text(outcome_sentence(facts.rollout, facts.summary)));
  page += "<nav aria-label=\"Sections\"><ul><li><a href=\"#summary\">Summary</a></li>";
  if (failures) {
    page += "<li><a href=\"#failures\">Failures</a></li>";
  }
  page +=
      "<li><a href=\"#timeline\">Timeline</a></li><li><a href=\"#times\">Times</a></li><li><a "
      "href=\"#domains\">Domains</a></li></ul></nav>\n</header>\n";
}

std::string cell(std::string_view label, const std::string& text, std::string_view style = "") {
  return fmt::format("<td{} data-label=\"{}\">{}</td>", style, label, text);
}

std::string time_cell(std::string_view label, const std::optional<Microseconds>& time) {
  return cell(label, time ? short_time(*time) : "", " class=\"n\"");
}

void append_domain(std::string& page, const ReportFacts& facts, std::size_t id) {
  const RolloutDomain& domain = domains_of(facts)[id];
  const StoredRollout& rollout = facts.rollout;
  const bool has_file = domain.file && *domain.file < rollout.begin.files.size();
  fmt::format_to(std::back_inserter(page), "<tr><th scope=\"row\">{}</th>{}{}{}{}{}{}{}{}{}</tr>\n",
                 page_text(domain.name), cell("State", state_mark(domain.record.state)),
                 cell("Wave", wave_name(domain.wave), " class=\"k\""),
                 cell("Connection", page_text(domain.connection)),
                 cell("Kernel", page_text(domain.release)),
                 cell("Livepatch", has_file ? page_text(rollout.begin.files[*domain.file].patch)
                                            : std::string()),
                 cell("Since",
                      domain.record.since == rollout::Time() ? std::string()
                                                             : time_of_day(domain.record.since),
                      " class=\"k\""),
                 time_cell("Transition", facts.times[id].transition),
                 time_cell("Pause", facts.times[id].pause),
                 cell("Text", page_text(domain.record.text), " class=\"whole\""));
}

void append_domains(std::string& page, const ReportFacts& facts) {
  const std::size_t all = domains_of(facts).size();
  const bool short_list = all > kTableRows;
  page += "<section>\n<h2 id=\"domains\">Domains</h2>\n";
  std::size_t shown = 0;
  std::size_t left_out = 0;
  std::string rows;
  for (std::size_t id = 0; id < all; ++id) {
    const bool patched = group_of(domains_of(facts)[id].record.state) == Group::patched;
    if ((short_list && patched) || shown == kTableRows) {
      ++left_out;
    } else {
      append_domain(rows, facts, id);
      ++shown;
    }
  }
  fmt::format_to(std::back_inserter(page),
                 "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"All "
                 "domains\">\n<table class=\"flow wide\">\n<caption>{}</caption>\n",
                 short_list
                     ? fmt::format("{} of {} domains: those that are not done, at most {}. "
                                   "The other {} are in the output of --json.",
                                   shown, all, kTableRows, left_out)
                     : fmt::format("All {} domains, as the plan orders them; times in UTC", all));
  page += "<thead><tr><th scope=\"col\">Domain</th>";
  for (const std::string_view name :
       {"State", "Wave", "Connection", "Kernel", "Livepatch", "Since"}) {
    fmt::format_to(std::back_inserter(page), "<th scope=\"col\">{}</th>", name);
  }
  page +=
      "<th scope=\"col\" class=\"n\">Transition</th><th scope=\"col\" class=\"n\">Pause</th><th "
      "scope=\"col\">Text</th></tr></thead>\n<tbody>\n";
  page += rows + "</tbody>\n</table>\n</div>\n</section>\n";
}

}  // namespace

const std::vector<RolloutDomain>& domains_of(const ReportFacts& facts) {
  return facts.rollout.begin.domains;
}

std::string report_page(const StoredRollout& rollout, const std::vector<RolloutEvent>& events,
                        rollout::Time now) {
  const ReportFacts facts = facts_of(rollout, events, now);
  std::string failures;
  append_failures(failures, facts);
  std::string page;
  append_head(page, facts);
  page += "<body>\n";
  page += kPatterns;
  page += "<main>\n";
  append_opening(page, facts, !failures.empty());
  append_summary(page, facts);
  page += failures;
  append_timeline(page, facts);
  append_plots(page, facts);
  append_domains(page, facts);
  page += "</main>\n</body>\n</html>\n";
  return page;
}

}  // namespace vpatch::fleet
