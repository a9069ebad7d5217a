// SPDX-License-Identifier: Apache-2.0
#include <iterator>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/report_parts.h"

namespace vpatch::fleet {
namespace {

using rollout::DomainState;

std::uint64_t sum_of(const GroupCounts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

void append_fact(std::string& page, std::string_view name, const std::string& value) {
  if (!value.empty()) {
    fmt::format_to(std::back_inserter(page), "<dt>{}</dt><dd>{}</dd>\n", name, value);
  }
}

std::string plural(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void append_facts(std::string& page, const ReportFacts& facts) {
  const StoredRollout& rollout = facts.rollout;
  page += "<dl>\n";
  append_fact(page, "Started",
              fmt::format("{} UTC{}{}", date_and_time(facts.begin),
                          rollout.user.empty() ? "" : " by ", page_text(rollout.user)));
  append_fact(page, facts.over ? "Ended" : "As of", date_and_time(facts.end) + " UTC");
  append_fact(page, facts.over ? "Duration" : "So far",
              elapsed_text(std::chrono::floor<std::chrono::seconds>(facts.end - facts.begin)));
  append_fact(page, "Failures",
              fmt::format("{}; the budget is {}", facts.summary.failures, facts.summary.budget) +
                  (rollout.record.accepted == 0
                       ? std::string()
                       : fmt::format(", after {} that resume accepted", rollout.record.accepted)));
  append_fact(page, "Reason", page_text(rollout.record.text));
  append_fact(page, "vpatch", page_text(rollout.begin.vpatch_version));
  page += "</dl>\n";
}

/// A table of counts with a bar a row.
void append_head(std::string& page, std::string_view caption, std::string_view first) {
  fmt::format_to(std::back_inserter(page),
                 "<table class=\"stack bars\">\n<caption>{}</caption>\n<thead><tr><th "
                 "scope=\"col\">{}</th><th scope=\"col\" class=\"n\">Domains</th><th "
                 "scope=\"col\">Share</th><th scope=\"col\">States</th></tr></thead>\n<tbody>\n",
                 caption, first);
}

void append_row(std::string& page, const std::string& name, const GroupCounts& counts) {
  auto out = std::back_inserter(page);
  fmt::format_to(out,
                 "<tr><th scope=\"row\">{}</th><td class=\"n\" "
                 "data-label=\"Domains\">{}</td><td class=\"bar\" data-label=\"Share\">",
                 name, sum_of(counts));
  append_bar(page, counts);
  page += "</td><td data-label=\"States\">";
  std::string_view separator;
  for (std::size_t index = 0; index < kGroups; ++index) {
    if (counts.at(index) > 0) {
      fmt::format_to(out, "{}{} {}", separator, counts.at(index),
                     to_string(static_cast<Group>(index)));
      separator = ", ";
    }
  }
  page += "</td></tr>\n";
}

void append_states(std::string& page, const ReportFacts& facts) {
  page += "<h3>Domains by state</h3>\n<table class=\"states\">\n<caption>" +
          plural(domains_of(facts).size(), "domain") +
          " in all</caption>\n<thead><tr><th scope=\"col\">State</th><th scope=\"col\" "
          "class=\"n\">Domains</th><th scope=\"col\">Share</th></tr></thead>\n<tbody>\n";
  const auto all = static_cast<double>(std::max<std::size_t>(domains_of(facts).size(), 1));
  for (std::size_t index = 0; index < rollout::kDomainStates; ++index) {
    const auto state = static_cast<DomainState>(index);
    const std::uint32_t count = facts.summary.domains.of(state);
    if (count > 0) {
      fmt::format_to(
          std::back_inserter(page),
          "<tr><th scope=\"row\">{}</th><td class=\"n\" data-label=\"Domains\">{}</td><td "
          "class=\"bar\" data-label=\"Share\"><svg height=\"12\" aria-hidden=\"true\"><rect "
          "class=\"{}\" width=\"{:.2f}%\" height=\"12\"/></svg></td></tr>\n",
          state_mark(state), count, class_of(group_of(state)), std::max(100 * count / all, 0.5));
    }
  }
  page += "</tbody>\n</table>\n";
}

void append_waves(std::string& page, const ReportFacts& facts) {
  page += "<h3>Waves</h3>\n";
  append_head(page, "In the order in which they are begun", "Wave");
  for (std::size_t wave = 0; wave < facts.summary.waves.size(); ++wave) {
    const GroupCounts counts = groups_of(facts.summary.waves[wave]);
    if (sum_of(counts) > 0) {
      append_row(page, wave_name(static_cast<std::uint32_t>(wave)), counts);
    }
  }
  page += "</tbody>\n</table>\n";
}

void append_releases(std::string& page, const ReportFacts& facts) {
  constexpr std::size_t kReleases = 50;
  std::map<std::string_view, rollout::StateCounts> releases;
  for (const RolloutDomain& domain : domains_of(facts)) {
    releases[domain.release].add(domain.record.state);
  }
  page += "<h3>Kernel releases</h3>\n";
  append_head(page, "As they were when the rollout began", "Release");
  std::size_t shown = 0;
  for (const auto& [release, counts] : releases) {
    if (shown++ == kReleases) {
      break;
    }
    append_row(page, release.empty() ? "not known" : page_text(release), groups_of(counts));
  }
  page += "</tbody>\n</table>\n";
  if (releases.size() > kReleases) {
    fmt::format_to(std::back_inserter(page), "<p class=\"note\">... and {} more</p>\n",
                   releases.size() - kReleases);
  }
}

void append_files(std::string& page, const ReportFacts& facts) {
  if (facts.rollout.begin.files.empty()) {
    return;
  }
  page +=
      "<h3>Livepatches</h3>\n<table class=\"stack\">\n<caption>The files of the plan</caption>\n"
      "<thead><tr><th scope=\"col\">Livepatch</th><th scope=\"col\">Kernel</th><th "
      "scope=\"col\">SHA-256</th></tr></thead>\n<tbody>\n";
  for (const RolloutFile& file : facts.rollout.begin.files) {
    fmt::format_to(std::back_inserter(page),
                   "<tr><th scope=\"row\">{}</th><td data-label=\"Kernel\">{}</td><td "
                   "data-label=\"SHA-256\"><code>{}</code></td></tr>\n",
                   page_text(file.patch), page_text(file.release), page_text(file.sha256));
  }
  page += "</tbody>\n</table>\n";
}

/// As text: each line by itself, since its ends are to stay.
void append_plan(std::string& page, std::string_view plan) {
  constexpr std::size_t kLongestLine = 4096;
  if (plan.empty()) {
    return;
  }
  page += "<details><summary>The plan</summary>\n<pre>";
  while (!plan.empty()) {
    const std::size_t end = plan.find('\n');
    page += page_text(plan.substr(0, end), kLongestLine) + '\n';
    plan.remove_prefix(end == std::string_view::npos ? plan.size() : end + 1);
  }
  page += "</pre>\n</details>\n";
}

}  // namespace

std::string_view class_of(Group group) {
  constexpr std::array<std::string_view, kGroups> kClasses = {
      "g-patched", "g-reverted", "g-failed", "g-doubtful", "g-at_work", "g-waiting", "g-left_out"};
  return kClasses.at(static_cast<std::size_t>(group));
}

std::string state_mark(DomainState state) {
  return fmt::format("<span class=\"state {}\">{}</span>", class_of(group_of(state)),
                     rollout::to_string(state));
}

void append_bar(std::string& page, const GroupCounts& counts) {
  auto out = std::back_inserter(page);
  const auto all = static_cast<double>(std::max<std::uint64_t>(sum_of(counts), 1));
  page += "<svg height=\"14\" aria-hidden=\"true\">";
  double begin = 0;
  for (std::size_t index = 0; index < kGroups; ++index) {
    if (counts.at(index) == 0) {
      continue;
    }
    const auto group = static_cast<Group>(index);
    const double width = 100 * static_cast<double>(counts.at(index)) / all;
    const std::string where =
        fmt::format("x=\"{:.2f}%\" width=\"{:.2f}%\" height=\"14\"", begin, width);
    fmt::format_to(out, "<rect class=\"{}\" {}/>", class_of(group), where);
    if (group == Group::reverted || group == Group::failed || group == Group::doubtful ||
        group == Group::left_out) {
      fmt::format_to(out, "<rect class=\"p-{}\" {}/>", class_of(group).substr(2), where);
    }
    begin += width;
  }
  page += "</svg>";
}

void append_summary(std::string& page, const ReportFacts& facts) {
  page += "<section>\n<h2 id=\"summary\">Summary</h2>\n";
  append_facts(page, facts);
  append_states(page, facts);
  append_waves(page, facts);
  append_releases(page, facts);
  append_files(page, facts);
  append_plan(page, facts.rollout.begin.plan);
  page += "</section>\n";
}

}  // namespace vpatch::fleet
