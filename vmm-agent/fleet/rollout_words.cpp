// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/rollout_words.h"

#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/stored_summary.h"

namespace vpatch::fleet {
namespace {

using rollout::Cause;
using rollout::Course;
using rollout::DomainState;

std::uint64_t of(const GroupCounts& counts, Group group) {
  return counts.at(static_cast<std::size_t>(group));
}

std::string domains(std::uint64_t count) {
  return count == 1 ? "1 domain" : fmt::format("{} domains", count);
}

std::string run_it(std::uint64_t count, std::size_t all) {
  return fmt::format("{} of {} {} the livepatch", count, domains(all), count == 1 ? "runs" : "run");
}

/// ", 2 failed, 1 in doubt": those of these groups that are not empty.
std::string with_counts(const GroupCounts& counts, std::initializer_list<Group> groups) {
  std::string text;
  for (const Group group : groups) {
    if (of(counts, group) > 0) {
      text += fmt::format(", {} {}", of(counts, group), to_string(group));
    }
  }
  return text;
}

std::string taken_back(const GroupCounts& counts) {
  const std::uint64_t reverted = of(counts, Group::reverted);
  return fmt::format("{} {} as before", domains(reverted), reverted == 1 ? "is" : "are") +
         with_counts(counts, {Group::patched, Group::failed, Group::doubtful, Group::at_work});
}

}  // namespace

Group group_of(DomainState state) {
  switch (state) {
    case DomainState::done:
    case DomainState::already:
      return Group::patched;
    case DomainState::reverted:
      return Group::reverted;
    case DomainState::failed:
      return Group::failed;
    case DomainState::inconclusive:
    case DomainState::unknown:
      return Group::doubtful;
    case DomainState::applying:
    case DomainState::watching:
    case DomainState::reverting:
      return Group::at_work;
    case DomainState::waiting:
      return Group::waiting;
    case DomainState::off:
    case DomainState::unmatched:
    case DomainState::left_alone:
      break;
  }
  return Group::left_out;
}

std::string_view to_string(Group group) {
  constexpr std::array<std::string_view, kGroups> kWords = {
      "patched", "reverted", "failed", "in doubt", "at work", "waiting", "left out"};
  return kWords.at(static_cast<std::size_t>(group));
}

GroupCounts groups_of(const rollout::StateCounts& counts) {
  GroupCounts groups{};
  for (std::size_t index = 0; index < rollout::kDomainStates; ++index) {
    const auto state = static_cast<DomainState>(index);
    groups.at(static_cast<std::size_t>(group_of(state))) += counts.of(state);
  }
  return groups;
}

std::string wave_name(std::uint32_t wave) {
  return wave == 0 ? "canary" : fmt::format("wave {}", wave);
}

std::string cause_text(const StoredRollout& rollout) {
  const rollout::RolloutRecord& record = rollout.record;
  const std::string domain = record.domain && *record.domain < rollout.begin.domains.size()
                                 ? shown_text(rollout.begin.domains[*record.domain].name, 100)
                                 : "a domain";
  switch (record.cause) {
    case Cause::none:
      return {};
    case Cause::command:
      return "an operator asked for it";
    case Cause::budget:
      return domain + " failed and spent the failure budget";
    case Cause::canary:
      return domain + " of the canary failed";
    case Cause::canary_unproven:
      return "no domain of the canary could be patched";
    case Cause::inconclusive:
      return "the health of " + domain + " could not be told";
    case Cause::no_progress:
      break;
  }
  return "no domain more was done within the time for progress";
}

std::string_view standing(const rollout::RolloutRecord& record) {
  switch (record.course) {
    case Course::forward:
      return record.finished ? "done" : record.paused ? "paused" : "under way";
    case Course::aborted:
      return record.finished ? "aborted" : "being aborted";
    case Course::back:
      break;
  }
  return record.finished ? "rolled back" : record.paused ? "rollback paused" : "being rolled back";
}

std::string outcome_sentence(const StoredRollout& rollout, const rollout::Summary& summary) {
  const rollout::RolloutRecord& record = rollout.record;
  const GroupCounts counts = groups_of(summary.domains);
  const std::string cause = record.cause == Cause::none ? "" : " because " + cause_text(rollout);
  const std::string running = run_it(of(counts, Group::patched), rollout.begin.domains.size());
  if (record.course == Course::back) {
    const std::string_view verb = record.finished ? "Rolled back"
                                  : record.paused ? "The rollback is paused"
                                                  : "Being rolled back";
    return fmt::format("{}{}: {}.", verb, cause, taken_back(counts));
  }
  const std::string others = with_counts(
      counts, {Group::failed, Group::doubtful, Group::at_work, Group::waiting, Group::left_out});
  if (record.course == Course::aborted) {
    return fmt::format("{}{}: {}{}.", record.finished ? "Aborted" : "Being aborted", cause, running,
                       others);
  }
  if (record.finished) {
    return fmt::format("{}: {}{}.", of(counts, Group::failed) == 0 ? "Done" : "Ended", running,
                       others);
  }
  return record.paused ? fmt::format("Paused{}: {}{}.", cause, running, others)
                       : fmt::format("Under way: {}{}.", running, others);
}

rollout::Summary summary_of(const StoredRollout& rollout) {
  const auto plan = rollout::parse_plan(rollout.begin.plan, "/");
  return summary_of(plan ? *plan : rollout::Plan(), rollout);
}

const boost::json::object* telling_report(const RolloutDomain& domain) {
  const rollout::DomainRecord& record = domain.record;
  const bool of_revert = record.state == DomainState::reverting ||
                         record.state == DomainState::reverted ||
                         record.before == DomainState::reverting;
  if (of_revert && domain.revert_report) {
    return &*domain.revert_report;
  }
  const bool unhealthy = record.before == DomainState::watching ||
                         record.state == DomainState::inconclusive ||
                         (record.state == DomainState::failed && record.touched);
  if (unhealthy && domain.health_report) {
    return &*domain.health_report;
  }
  return domain.apply_report ? &*domain.apply_report : nullptr;
}

}  // namespace vpatch::fleet
