// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/rollout_view.h"

#include <algorithm>
#include <numeric>
#include <span>

#include <fmt/format.h>

#include "vmm-agent/fleet/measured_times.h"
#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/rollout_words.h"
#include "vmm-agent/fleet/view_text.h"

namespace vpatch::fleet {
namespace {

using rollout::Course;
using rollout::DomainId;
using rollout::DomainState;
using std::chrono::seconds;

constexpr std::size_t kNameColumns = 24;  ///< of a domain, at most
constexpr std::size_t kStateColumns = 12;
constexpr std::size_t kTimeColumns = 7;

Tone tone_of(Group group) {
  constexpr std::array<Tone, kGroups> kTones = {
      Tone::good, Tone::doubtful, Tone::bad, Tone::doubtful, Tone::busy, Tone::faint, Tone::faint};
  return kTones.at(static_cast<std::size_t>(group));
}

char mark_of(Group group) {
  constexpr std::string_view kMarks = "#<!?=.-";
  return kMarks[static_cast<std::size_t>(group)];
}

std::uint64_t sum_of(const GroupCounts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

/// All that the lines are made of.
struct View {
  const StoredRollout& rollout;
  const rollout::Summary& summary;
  const std::map<DomainId, std::string>& doing;
  rollout::Time now;
  ViewSize size;

  const RolloutDomain& domain(DomainId id) const { return rollout.begin.domains[id]; }
  ViewLine line() const { return {size.width, size.color}; }
};

using Lines = std::vector<std::string>;

// The head.

Tone standing_tone(const rollout::RolloutRecord& record) {
  if (record.paused || record.course == Course::aborted) {
    return Tone::bad;
  }
  return record.course == Course::back ? Tone::doubtful : record.finished ? Tone::good : Tone::busy;
}

/// Which wave it is at, or that it soaks.
std::string step_text(const View& view) {
  const rollout::RolloutRecord& record = view.rollout.record;
  const std::size_t waves = view.summary.waves.size();
  if (record.finished || record.course != Course::forward || record.wave >= waves) {
    return {};
  }
  if (record.soak_until && *record.soak_until > view.now) {
    return fmt::format("{} is over, the next one in {}", wave_name(record.wave),
                       elapsed_text(*record.soak_until - view.now));
  }
  return fmt::format("{} of {}", wave_name(record.wave), waves - 1);
}

void append_head(Lines& lines, const View& view) {
  const rollout::RolloutRecord& record = view.rollout.record;
  const auto begin = parse_utc(view.rollout.started_at);
  ViewLine first = view.line();
  first.add(view.rollout.begin.name).add("  ").add(standing(record), standing_tone(record));
  if (const std::string step = step_text(view); !step.empty()) {
    first.add("  ").add(step);
  }
  if (begin) {
    const auto ended = parse_utc(view.rollout.ended_at);
    const Moment until = record.finished && ended ? *ended : Moment(view.now);
    first.add("  ").add(elapsed_text(std::chrono::floor<seconds>(until - *begin)), Tone::faint);
  }
  lines.push_back(std::move(first).take());
  if (const std::string cause = cause_text(view.rollout); !cause.empty()) {
    ViewLine why = view.line();
    why.add(cause, Tone::bad);
    if (!record.text.empty()) {
      why.add(": ").add(record.text);
    }
    lines.push_back(std::move(why).take());
  }
  ViewLine budget = view.line();
  const bool spent = view.summary.failures > view.summary.budget;
  budget
      .add(fmt::format("{} of {} domains patched",
                       groups_of(view.summary.domains)[static_cast<std::size_t>(Group::patched)],
                       view.rollout.begin.domains.size()))
      .add(fmt::format(", {} at work, ", view.summary.at_work))
      .add(fmt::format("failures {} of a budget of {}", view.summary.failures, view.summary.budget),
           spent ? Tone::bad : Tone::plain);
  lines.push_back(std::move(budget).take());
}

// The waves.

/// Each group that is there has a cell, as long as there are cells.
std::array<std::size_t, kGroups> cells_of(const GroupCounts& counts, std::size_t cells) {
  std::array<std::size_t, kGroups> shares{};
  const std::uint64_t all = std::max<std::uint64_t>(sum_of(counts), 1);
  for (std::size_t group = 0; group < kGroups; ++group) {
    const std::uint64_t count = counts.at(group);
    shares.at(group) = count == 0 ? 0 : std::max<std::uint64_t>(count * cells / all, 1);
  }
  // What rounding has left over, or taken too much, is the largest one's.
  auto* largest = std::ranges::max_element(shares);
  std::size_t sum = std::accumulate(shares.begin(), shares.end(), std::size_t{0});
  while (sum > cells) {
    largest = std::ranges::max_element(shares);
    --*largest;
    --sum;
  }
  *largest += cells - sum;
  return shares;
}

std::string wave_line(const View& view, std::uint32_t wave) {
  constexpr std::size_t kName = 9;
  constexpr std::size_t kLongestBar = 32;
  const GroupCounts counts = groups_of(view.summary.waves[wave]);
  ViewLine line = view.line();
  const bool current = wave == view.rollout.record.wave && !view.rollout.record.finished;
  line.add(current ? ">" : " ", Tone::busy).field(wave_name(wave), kName);
  const std::size_t bar = std::min(view.size.width / 4, kLongestBar);
  line.add("[");
  const auto cells = cells_of(counts, bar);
  for (std::size_t group = 0; group < kGroups; ++group) {
    line.add(std::string(cells.at(group), mark_of(static_cast<Group>(group))),
             tone_of(static_cast<Group>(group)));
  }
  line.add(
      fmt::format("] {}/{}", counts[static_cast<std::size_t>(Group::patched)], sum_of(counts)));
  for (std::size_t group = 1; group < kGroups; ++group) {
    if (counts.at(group) > 0) {
      line.add(fmt::format(", {} {}", counts.at(group), to_string(static_cast<Group>(group))),
               tone_of(static_cast<Group>(group)));
    }
  }
  return std::move(line).take();
}

Lines wave_lines(const View& view) {
  Lines lines;
  for (std::uint32_t wave = 0; wave < view.summary.waves.size(); ++wave) {
    if (sum_of(groups_of(view.summary.waves[wave])) > 0) {
      lines.push_back(wave_line(view, wave));
    }
  }
  return lines;
}

// The domains.

ViewLine domain_line(const View& view, DomainId id, std::size_t name_columns) {
  const RolloutDomain& domain = view.domain(id);
  const DomainState state = domain.record.state;
  ViewLine line = view.line();
  line.add("  ").field(domain.name, name_columns).add("  ");
  line.field(rollout::to_string(state), kStateColumns, tone_of(group_of(state))).add("  ");
  if (domain.record.since == rollout::Time()) {
    line.field("", kTimeColumns);
  } else {
    line.field(elapsed_text(view.now - domain.record.since), kTimeColumns, Tone::faint);
  }
  return line;
}

std::string at_work_line(const View& view, DomainId id, std::size_t name_columns) {
  ViewLine line = domain_line(view, id, name_columns);
  const auto says = view.doing.find(id);
  const std::string& text = says != view.doing.end() ? says->second : view.domain(id).record.text;
  return std::move(line.add("  ").add(text)).take();
}

std::string finished_line(const View& view, DomainId id, std::size_t name_columns) {
  const MeasuredTimes times = times_of(view.domain(id));
  ViewLine line = domain_line(view, id, name_columns);
  if (times.transition) {
    line.add(fmt::format("  transition {:>8}", short_time(*times.transition)));
  }
  if (times.pause) {
    line.add(*times.pause == Microseconds(0) ? "  no pause"
                                             : "  pause " + short_time(*times.pause));
  }
  if (!view.domain(id).record.text.empty()) {
    line.add("  ").add(view.domain(id).record.text);
  }
  return std::move(line).take();
}

/// Domains of one kind, the most important first, of which as many are shown as there is room for.
struct Section {
  std::string_view title;
  std::vector<DomainId> domains{};
  std::size_t lines = 0;  ///< given to it: title, domains, "and more"
};

std::size_t wanted(const Section& section) {
  return section.domains.empty() ? 0 : section.domains.size() + 1;
}

struct Sections {
  Section at_work{"at work"}, failed{"failed"}, finished{"finished"};
};

/// `at_work`: what is in doubt and what has been there for longest comes first. The others: the
/// latest first.
Sections sections_of(const View& view) {
  Sections sections;
  for (std::size_t index = 0; index < view.rollout.begin.domains.size(); ++index) {
    const auto id = static_cast<DomainId>(index);
    switch (group_of(view.domain(id).record.state)) {
      case Group::at_work:
      case Group::doubtful:
        sections.at_work.domains.push_back(id);
        break;
      case Group::failed:
        sections.failed.domains.push_back(id);
        break;
      case Group::patched:
      case Group::reverted:
        if (view.domain(id).record.order > 0) {
          sections.finished.domains.push_back(id);
        }
        break;
      case Group::waiting:
      case Group::left_out:
        break;
    }
  }
  const auto first = [&view](Section& section, const auto& before) {
    const auto most =
        static_cast<std::ptrdiff_t>(std::min(section.domains.size(), view.size.height));
    std::ranges::partial_sort(section.domains, section.domains.begin() + most, before);
  };
  const auto since = [&view](DomainId id) { return view.domain(id).record.since; };
  first(sections.at_work, [&](DomainId left, DomainId right) {
    const auto key = [&](DomainId id) {
      const bool doubtful = group_of(view.domain(id).record.state) == Group::doubtful;
      return std::tuple(!doubtful, since(id), id);
    };
    return key(left) < key(right);
  });
  const auto latest = [&](DomainId left, DomainId right) {
    return std::tuple(since(right), left) < std::tuple(since(left), right);
  };
  first(sections.failed, latest);
  first(sections.finished, latest);
  return sections;
}

/// Shares `room` lines out: first a few to each, for all to be seen, then by importance.
void share_out(std::span<Section* const> sections, std::size_t room) {
  constexpr std::array<std::size_t, 3> kRounds = {3, 6, SIZE_MAX};
  for (const std::size_t most : kRounds) {
    for (Section* section : sections) {
      const std::size_t target = std::min(wanted(*section), most);
      if (target > section->lines) {
        const std::size_t more = std::min(target - section->lines, room);
        section->lines += more;
        room -= more;
      }
    }
  }
}

/// How many of its domains are shown: a title alone tells nothing.
std::size_t shown_of(const Section& section) {
  return section.lines < 2                  ? 0
         : section.lines >= wanted(section) ? section.domains.size()
                                            : std::max<std::size_t>(section.lines - 2, 1);
}

/// For the names of all that is shown, so that the columns are one below the other.
std::size_t name_columns_of(const View& view, std::span<Section* const> sections) {
  constexpr std::size_t kLeast = 4;
  std::size_t columns = kLeast;
  for (const Section* section : sections) {
    for (std::size_t index = 0; index < shown_of(*section); ++index) {
      const std::string name = shown_text(view.domain(section->domains[index]).name);
      columns = std::max(columns, std::min(columns_of(name), kNameColumns));
    }
  }
  return columns;
}

template <class LineOf>
void append_section(Lines& lines, const View& view, const Section& section,
                    std::size_t name_columns, const LineOf& line_of) {
  const std::size_t shown = shown_of(section);
  if (shown == 0) {
    return;
  }
  lines.push_back(
      std::move(view.line().add(fmt::format("{}: {}", section.title, section.domains.size()),
                                Tone::faint))
          .take());
  for (std::size_t index = 0; index < shown; ++index) {
    lines.push_back(line_of(view, section.domains[index], name_columns));
  }
  if (shown < section.domains.size() && shown + 1 < section.lines) {
    lines.push_back(
        std::move(view.line().add(fmt::format("  ... and {} more", section.domains.size() - shown),
                                  Tone::faint))
            .take());
  }
}

/// Those around the one at work, when there is no room for all.
void append_waves(Lines& lines, const View& view, std::size_t room) {
  const Lines waves = wave_lines(view);
  if (waves.size() <= room) {
    lines.insert(lines.end(), waves.begin(), waves.end());
    return;
  }
  if (room == 0) {
    return;
  }
  std::size_t current = 0;
  for (std::uint32_t wave = 0; wave < view.rollout.record.wave && wave < view.summary.waves.size();
       ++wave) {
    current += std::size_t{sum_of(groups_of(view.summary.waves[wave])) > 0};
  }
  const std::size_t shown = std::max<std::size_t>(room - 1, 1);
  const std::size_t first = std::min(current - std::min(current, shown / 2), waves.size() - shown);
  for (std::size_t index = 0; index < shown; ++index) {
    lines.push_back(waves[first + index]);
  }
  if (room > shown) {
    lines.push_back(
        std::move(view.line().add(fmt::format("  ... and {} more waves", waves.size() - shown),
                                  Tone::faint))
            .take());
  }
}

}  // namespace

std::string render_rollout(const StoredRollout& rollout, const rollout::Summary& summary,
                           const std::map<DomainId, std::string>& doing, rollout::Time now,
                           const ViewSize& size) {
  const View view{rollout, summary, doing, now, size};
  Lines lines;
  append_head(lines, view);
  lines.resize(std::min(lines.size(), size.height));
  Sections sections = sections_of(view);
  const bool any = wanted(sections.at_work) + wanted(sections.failed) > 0;
  const std::size_t room = size.height - lines.size();
  append_waves(lines, view, any ? std::max<std::size_t>(room / 2, 1) : room);
  lines.resize(std::min(lines.size(), size.height));
  const std::array<Section*, 3> by_importance = {&sections.at_work, &sections.failed,
                                                 &sections.finished};
  share_out(by_importance, size.height - lines.size());
  const std::size_t names = name_columns_of(view, by_importance);
  append_section(lines, view, sections.at_work, names, at_work_line);
  append_section(lines, view, sections.finished, names, finished_line);
  append_section(lines, view, sections.failed, names, at_work_line);
  std::string text;
  for (const std::string& line : lines) {
    text += line + '\n';
  }
  return text;
}

}  // namespace vpatch::fleet
