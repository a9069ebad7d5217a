// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <numeric>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/report_parts.h"

namespace vpatch::fleet {
namespace {

using rollout::DomainId;
using rollout::DomainState;
using std::chrono::seconds;

constexpr std::size_t kDomainRows = 200;  ///< with more domains there is a row a wave
constexpr std::size_t kBins = 100;        ///< of such a row
constexpr std::size_t kMarks = 20;        ///< events of the rollout that the picture shows
constexpr std::size_t kListed = 200;      ///< and the list

struct Change {
  Moment at;
  DomainState state = DomainState::waiting;
};

/// Where a moment is, in percent of the picture's width.
double place_of(const ReportFacts& facts, Moment at) {
  const auto all = static_cast<double>((facts.end - facts.begin).count());
  return std::clamp(100 * static_cast<double>((at - facts.begin).count()) / all, 0.0, 100.0);
}

// The axis.

seconds step_of(seconds span) {
  constexpr std::array<std::int64_t, 17> kSteps = {
      1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200};
  constexpr std::int64_t kTicks = 5;
  for (const std::int64_t step : kSteps) {
    if (span.count() <= step * kTicks) {
      return seconds(step);
    }
  }
  constexpr std::int64_t kDay = 86400;
  return seconds((span.count() / kTicks / kDay + 1) * kDay);
}

std::string tick_text(Moment at, seconds step, bool days) {
  const auto whole = std::chrono::floor<seconds>(at);
  return days                 ? fmt::format("{:%m-%d %H:%M}", whole)
         : step < seconds(60) ? fmt::format("{:%H:%M:%S}", whole)
                              : fmt::format("{:%H:%M}", whole);
}

void append_ticks(std::string& page, const ReportFacts& facts) {
  const auto span = std::chrono::ceil<seconds>(facts.end - facts.begin);
  const seconds step = step_of(span);
  const auto first = std::chrono::floor<seconds>(facts.begin).time_since_epoch();
  for (seconds at = (first / step + 1) * step; Moment(at) <= facts.end; at += step) {
    const double x = place_of(facts, Moment(at));
    const std::string_view anchor = x < 8 ? "start" : x > 92 ? "end" : "middle";
    fmt::format_to(std::back_inserter(page),
                   "<line class=\"grid\" x1=\"{0:.2f}%\" x2=\"{0:.2f}%\" y1=\"30\" "
                   "y2=\"36\"/><text x=\"{0:.2f}%\" y=\"48\" text-anchor=\"{1}\">{2}</text>",
                   x, anchor, tick_text(Moment(at), step, span > std::chrono::hours(24)));
  }
}

// What happened to the rollout itself.

std::vector<const RolloutEvent*> marks_of(const ReportFacts& facts) {
  std::vector<const RolloutEvent*> marks;
  for (const RolloutEvent& event : facts.events) {
    if (!event.domain) {
      marks.push_back(&event);
    }
  }
  return marks;
}

/// Lines through all rows, which each row refers to.
void append_defs(std::string& page, const ReportFacts& facts,
                 const std::vector<const RolloutEvent*>& marks) {
  page += "<svg class=\"defs\" aria-hidden=\"true\"><defs><g id=\"marks\">";
  for (std::size_t index = 0; index < std::min(marks.size(), kMarks); ++index) {
    if (const auto at = parse_utc(marks[index]->at)) {
      fmt::format_to(std::back_inserter(page),
                     "<line class=\"event\" x1=\"{0:.2f}%\" x2=\"{0:.2f}%\" y1=\"0\" y2=\"100%\"/>",
                     place_of(facts, *at));
    }
  }
  page += "</g></defs></svg>\n";
}

/// Their numbers, on two lines where they would touch.
void append_numbers(std::string& page, const ReportFacts& facts,
                    const std::vector<const RolloutEvent*>& marks) {
  constexpr double kApart = 5;
  std::array<double, 2> last = {-kApart, -kApart};
  for (std::size_t index = 0; index < std::min(marks.size(), kMarks); ++index) {
    const auto at = parse_utc(marks[index]->at);
    if (!at) {
      continue;
    }
    const double x = place_of(facts, *at);
    for (std::size_t line = 0; line < last.size(); ++line) {
      if (x - last.at(line) >= kApart) {
        last.at(line) = x;
        fmt::format_to(std::back_inserter(page),
                       "<text x=\"{:.2f}%\" y=\"{}\" text-anchor=\"middle\">{}</text>", x,
                       line == 0 ? 26 : 12, index + 1);
        break;
      }
    }
  }
}

void append_axis(std::string& page, const ReportFacts& facts,
                 const std::vector<const RolloutEvent*>& marks, bool by_domain) {
  fmt::format_to(std::back_inserter(page),
                 "<thead><tr><th scope=\"col\" class=\"name\">{}</th><th scope=\"col\" "
                 "class=\"axis\"><svg height=\"52\" "
                 "role=\"img\"><title>Time axis, UTC, with the numbers of the events below</title>",
                 by_domain ? "Domain" : "Wave");
  append_ticks(page, facts);
  append_numbers(page, facts, marks);
  page += "</svg></th><th scope=\"col\" class=\"end\">Now</th></tr></thead>\n";
}

/// Its kind and its text. That of "wave" is a number.
std::string words_of(const RolloutEvent& event) {
  if (event.kind == "wave") {
    return (event.text == "0" ? "canary" : "wave " + page_text(event.text)) + " begins";
  }
  return page_text(event.kind) + (event.text.empty() ? "" : ": ") + page_text(event.text);
}

void append_event_list(std::string& page, const ReportFacts& facts,
                       const std::vector<const RolloutEvent*>& marks) {
  if (marks.empty()) {
    return;
  }
  page +=
      "<h3>Events of the rollout</h3>\n<table class=\"flow\">\n<caption>Numbers as in the "
      "picture</caption>\n<thead><tr><th scope=\"col\">Number</th><th scope=\"col\">Time, "
      "UTC</th><th scope=\"col\">From the start</th><th "
      "scope=\"col\">Event</th></tr></thead>\n<tbody>\n";
  for (std::size_t index = 0; index < std::min(marks.size(), kListed); ++index) {
    const RolloutEvent& event = *marks[index];
    const auto at = parse_utc(event.at);
    fmt::format_to(
        std::back_inserter(page),
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"whole\">{}</td></tr>\n",
        index + 1, at ? date_and_time(*at) : page_text(event.at),
        at ? "after " + elapsed_text(std::chrono::floor<seconds>(*at - facts.begin)) : "",
        words_of(event));
  }
  page += "</tbody>\n</table>\n";
  if (marks.size() > kListed) {
    fmt::format_to(std::back_inserter(page), "<p class=\"note\">... and {} more</p>\n",
                   marks.size() - kListed);
  }
}

// A row a domain.

/// How a state is drawn: what is under way is high, what lasts is thin, so that colours are not
/// needed to tell them apart.
struct Look {
  std::string_view color, pattern;
  int y, height;
};

std::optional<Look> look_of(DomainState state) {
  switch (state) {
    case DomainState::applying:
      return Look{"g-at_work", "", 2, 12};
    case DomainState::watching:
      return Look{"g-watching", "", 4, 8};
    case DomainState::reverting:
      return Look{"g-reverted", "p-reverted", 2, 12};
    case DomainState::inconclusive:
    case DomainState::unknown:
      return Look{"g-doubtful", "p-doubtful", 2, 12};
    case DomainState::done:
    case DomainState::already:
      return Look{"g-patched", "", 6, 4};
    case DomainState::reverted:
      return Look{"g-reverted", "", 7, 2};
    case DomainState::failed:
      return Look{"g-failed", "", 6, 4};
    case DomainState::waiting:
    case DomainState::off:
    case DomainState::unmatched:
    case DomainState::left_alone:
      break;
  }
  return std::nullopt;
}

/// From `begin` on, `width` of it, both in percent.
void append_shape(std::string& page, DomainState state, double begin, double width) {
  const auto look = look_of(state);
  if (!look) {
    return;
  }
  auto out = std::back_inserter(page);
  const std::string where = fmt::format("x=\"{:.2f}%\" width=\"{:.2f}%\" y=\"{}\" height=\"{}\"",
                                        begin, width, look->y, look->height);
  fmt::format_to(out, "<rect class=\"{}\" {}/>", look->color, where);
  if (!look->pattern.empty()) {
    fmt::format_to(out, "<rect class=\"{}\" {}/>", look->pattern, where);
  }
  if (state == DomainState::failed) {
    fmt::format_to(
        out, "<rect class=\"g-failed\" x=\"{:.2f}%\" width=\"4\" y=\"1\" height=\"14\"/>", begin);
  }
}

void append_segment(std::string& page, const ReportFacts& facts, const Change& change,
                    Moment until) {
  constexpr double kLeast = 0.5;  // percent: what takes a second of an hour is seen too
  const double begin = place_of(facts, change.at);
  append_shape(page, change.state, begin, std::max(place_of(facts, until) - begin, kLeast));
}

std::string story_of(const RolloutDomain& domain, const std::vector<Change>& changes) {
  std::string story = page_text(domain.name, 200);
  std::string_view separator = ": ";
  for (const Change& change : changes) {
    story +=
        fmt::format("{}{} {}", separator, rollout::to_string(change.state), time_of_day(change.at));
    separator = ", ";
  }
  return story;
}

void append_domain_row(std::string& page, const ReportFacts& facts, const RolloutDomain& domain,
                       const std::vector<Change>& changes) {
  auto out = std::back_inserter(page);
  const std::string name = page_text(domain.name, 200);
  fmt::format_to(out,
                 "<tr><th scope=\"row\" title=\"{0}\">{0}</th><td><svg height=\"16\" "
                 "role=\"img\"><title>{1}</title><use href=\"#marks\"/>",
                 name, story_of(domain, changes));
  for (std::size_t index = 0; index < changes.size(); ++index) {
    const Moment until = index + 1 < changes.size() ? changes[index + 1].at : facts.end;
    append_segment(page, facts, changes[index], until);
  }
  fmt::format_to(out, "</svg></td><td class=\"end\">{}</td></tr>\n",
                 state_mark(domain.record.state));
}

/// The domains of a wave that have nothing to draw, by state.
void append_rest(std::string& page, rollout::StateCounts& rest) {
  std::string text;
  for (std::size_t index = 0; index < rollout::kDomainStates; ++index) {
    const auto state = static_cast<DomainState>(index);
    if (rest.of(state) > 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", rest.of(state),
                          rollout::to_string(state));
    }
  }
  if (!text.empty()) {
    fmt::format_to(std::back_inserter(page),
                   "<tr><td class=\"rest\" colspan=\"3\">not begun: {}</td></tr>\n", text);
  }
  rest = {};
}

void append_domain_rows(std::string& page, const ReportFacts& facts) {
  const std::vector<RolloutDomain>& domains = domains_of(facts);
  std::vector<std::vector<Change>> changes(domains.size());
  for (const RolloutEvent& event : facts.events) {
    const auto state = rollout::parse_domain_state(event.kind);
    const auto at = parse_utc(event.at);
    if (event.domain && *event.domain < domains.size() && state && at) {
      changes[*event.domain].push_back({*at, *state});
    }
  }
  std::vector<DomainId> order(domains.size());
  std::iota(order.begin(), order.end(), DomainId{0});
  std::ranges::stable_sort(order, {}, [&domains](DomainId id) {
    const std::uint32_t place = domains[id].record.order;
    return std::pair(domains[id].wave, place == 0 ? UINT32_MAX : place);
  });
  const auto has_row = [&changes](DomainId id) {
    return std::ranges::any_of(
        changes[id], [](const Change& change) { return look_of(change.state).has_value(); });
  };
  std::optional<std::uint32_t> wave;
  rollout::StateCounts rest;
  for (const DomainId id : order) {
    if (wave != domains[id].wave) {
      append_rest(page, rest);
      page += wave ? "</tbody>\n" : "";
      wave = domains[id].wave;
      fmt::format_to(
          std::back_inserter(page),
          "<tbody>\n<tr><th scope=\"rowgroup\" class=\"wave\" colspan=\"3\">{}</th></tr>\n",
          wave_name(*wave));
    }
    if (has_row(id)) {
      append_domain_row(page, facts, domains[id], changes[id]);
    } else {
      rest.add(domains[id].record.state);
    }
  }
  append_rest(page, rest);
  page += wave ? "</tbody>\n" : "";
}

// A row a wave: how many domains were in which group, at the end of each of kBins spans of time.

using WaveBins = std::vector<std::vector<GroupCounts>>;  ///< by wave, then bin

WaveBins bins_of(const ReportFacts& facts) {
  const std::vector<RolloutDomain>& domains = domains_of(facts);
  std::vector<bool> moved(domains.size());
  for (const RolloutEvent& event : facts.events) {
    if (event.domain && *event.domain < domains.size()) {
      moved[*event.domain] = true;
    }
  }
  std::vector<Group> groups(domains.size(), Group::waiting);
  std::vector<GroupCounts> now(facts.summary.waves.size());
  for (std::size_t id = 0; id < domains.size(); ++id) {
    if (!moved[id]) {
      groups[id] = group_of(domains[id].record.state);
    }
    ++now[domains[id].wave].at(static_cast<std::size_t>(groups[id]));
  }
  WaveBins bins(now.size());
  const auto fill_until = [&bins, &now](std::size_t bin) {
    for (std::size_t wave = 0; wave < bins.size(); ++wave) {
      bins[wave].resize(std::max(bins[wave].size(), bin), now[wave]);
    }
  };
  for (const RolloutEvent& event : facts.events) {
    const auto state = rollout::parse_domain_state(event.kind);
    const auto at = parse_utc(event.at);
    if (!event.domain || *event.domain >= domains.size() || !state || !at) {
      continue;
    }
    fill_until(static_cast<std::size_t>(place_of(facts, *at) * kBins / 100));
    GroupCounts& counts = now[domains[*event.domain].wave];
    Group& group = groups[*event.domain];
    --counts.at(static_cast<std::size_t>(group));
    group = group_of(*state);
    ++counts.at(static_cast<std::size_t>(group));
  }
  fill_until(kBins);
  return bins;
}

/// The band of a group, on top of those before it: up along their sum with it, back along their
/// sum.
std::string band(const std::vector<GroupCounts>& bins, std::size_t group, double all) {
  const auto height = [&bins, all](std::size_t bin, std::size_t groups) {
    const auto& counts = bins[bin];
    const auto sum = std::accumulate(
        counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(groups), std::uint64_t{0});
    return 100 - 100 * static_cast<double>(sum) / all;
  };
  std::string path = fmt::format("M0 {:.1f}", height(0, group + 1));
  for (std::size_t bin = 0; bin < bins.size(); ++bin) {
    fmt::format_to(std::back_inserter(path), "V{:.1f}H{}", height(bin, group + 1), bin + 1);
  }
  for (std::size_t bin = bins.size(); bin > 0; --bin) {
    fmt::format_to(std::back_inserter(path), "V{:.1f}H{}", height(bin - 1, group), bin - 1);
  }
  return path + "Z";
}

void append_wave_rows(std::string& page, const ReportFacts& facts) {
  const WaveBins bins = bins_of(facts);
  page += "<tbody>\n";
  for (std::size_t wave = 0; wave < bins.size(); ++wave) {
    const GroupCounts& last = bins[wave].back();
    const auto all = std::accumulate(last.begin(), last.end(), std::uint64_t{0});
    if (all == 0) {
      continue;
    }
    const std::uint64_t failed = last.at(static_cast<std::size_t>(Group::failed));
    const std::string name = wave_name(static_cast<std::uint32_t>(wave));
    fmt::format_to(std::back_inserter(page),
                   "<tr><th scope=\"row\">{0}</th><td><svg height=\"56\" "
                   "role=\"img\"><title>{0}: how many of its domains were in which state over "
                   "time</title><svg viewBox=\"0 0 {1} 100\" preserveAspectRatio=\"none\">",
                   name, kBins);
    for (std::size_t group = 0; group < kGroups; ++group) {
      const bool there =
          std::ranges::any_of(bins[wave], [group](const auto& bin) { return bin.at(group) > 0; });
      if (there) {
        fmt::format_to(std::back_inserter(page), "<path class=\"band {}\" d=\"{}\"/>",
                       class_of(static_cast<Group>(group)),
                       band(bins[wave], group, static_cast<double>(all)));
      }
    }
    fmt::format_to(std::back_inserter(page),
                   "</svg><use href=\"#marks\"/></svg></td><td class=\"end\">{} of "
                   "{}<br/>patched{}</td></tr>\n",
                   last.at(static_cast<std::size_t>(Group::patched)), all,
                   failed == 0 ? "" : fmt::format(", {} failed", failed));
  }
  page += "</tbody>\n";
}

void append_legend(std::string& page, bool by_domain) {
  page += "<ul class=\"legend\">";
  const auto key = [&page](const auto& draw, std::string_view text) {
    page += "<li><svg aria-hidden=\"true\">";
    draw();
    fmt::format_to(std::back_inserter(page), "</svg>{}</li>", text);
  };
  if (by_domain) {
    for (const DomainState state :
         {DomainState::applying, DomainState::watching, DomainState::done, DomainState::failed,
          DomainState::unknown, DomainState::reverting, DomainState::reverted}) {
      key([&] { append_shape(page, state, 0, 100); },
          state == DomainState::unknown ? "unknown or inconclusive" : rollout::to_string(state));
    }
  } else {
    for (std::size_t group = 0; group < kGroups; ++group) {
      key(
          [&] {
            fmt::format_to(std::back_inserter(page),
                           "<rect class=\"{}\" width=\"100%\" y=\"2\" height=\"12\"/>",
                           class_of(static_cast<Group>(group)));
          },
          to_string(static_cast<Group>(group)));
    }
  }
  page += "</ul>\n";
}

}  // namespace

void append_timeline(std::string& page, const ReportFacts& facts) {
  const std::vector<const RolloutEvent*> marks = marks_of(facts);
  const bool by_domain = domains_of(facts).size() <= kDomainRows;
  page += "<section>\n<h2 id=\"timeline\">Timeline</h2>\n";
  append_defs(page, facts, marks);
  append_legend(page, by_domain);
  fmt::format_to(std::back_inserter(page),
                 "<table class=\"rows\">\n<caption>From {} to {} UTC, {}</caption>\n",
                 date_and_time(facts.begin), date_and_time(facts.end),
                 by_domain ? "a row a domain, in the order in which they were begun"
                           : "a row a wave, from the bottom: patched, reverted, failed, ...");
  append_axis(page, facts, marks, by_domain);
  if (by_domain) {
    append_domain_rows(page, facts);
  } else {
    append_wave_rows(page, facts);
  }
  page += "</table>\n";
  append_event_list(page, facts, marks);
  page += "</section>\n";
}

}  // namespace vpatch::fleet
