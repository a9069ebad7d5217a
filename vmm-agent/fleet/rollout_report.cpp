// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/rollout_report.h"

#include <map>
#include <utility>

#include <boost/json.hpp>

#include "vmm-agent/fleet/measured_times.h"
#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/rollout_words.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using fleet::or_null;
using rollout::DomainState;

constexpr int kSchema = 1;

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(shown_text(text));
}

json::value or_null(rollout::Time time) {
  return time == rollout::Time() ? json::value(nullptr) : json::value(iso_text(time));
}

json::object to_json(const rollout::StateCounts& counts) {
  json::object object;
  for (std::size_t index = 0; index < rollout::kDomainStates; ++index) {
    const auto state = static_cast<DomainState>(index);
    object[rollout::to_string(state)] = counts.of(state);
  }
  return object;
}

json::object to_json(const Quantiles& quantiles) {
  return {{"count", quantiles.count},
          {"p50_us", quantiles.p50.count()},
          {"p90_us", quantiles.p90.count()},
          {"p99_us", quantiles.p99.count()},
          {"max_us", quantiles.max.count()}};
}

json::value member(const json::object* object, std::string_view key) {
  const json::value* value = object == nullptr ? nullptr : object->if_contains(key);
  return value == nullptr ? json::value(nullptr) : serve::printable_value(*value);
}

std::string_view name_in(const StoredRollout& rollout, rollout::DomainId id) {
  const auto& domains = rollout.begin.domains;
  return id < domains.size() ? std::string_view(domains[id].name) : std::string_view();
}

json::value name_or_null(const StoredRollout& rollout, const std::optional<rollout::DomainId>& id) {
  return id ? json::value(shown_text(name_in(rollout, *id))) : json::value(nullptr);
}

json::object to_json(const StoredRollout& rollout, const RolloutDomain& domain) {
  const rollout::DomainRecord& record = domain.record;
  const MeasuredTimes times = times_of(domain);
  const json::object* report = telling_report(domain);
  const bool has_file = domain.file && *domain.file < rollout.begin.files.size();
  const Group group = group_of(record.state);
  const bool explained = group == Group::failed || group == Group::doubtful;
  json::object object{
      {"name", shown_text(domain.name)},
      {"identity", shown_text(domain.identity)},
      {"connection", shown_text(domain.connection)},
      {"wave", domain.wave},
      {"release", or_null(domain.release)},
      {"patch",
       has_file ? json::value(shown_text(rollout.begin.files[*domain.file].patch)) : nullptr},
      {"state", rollout::to_string(record.state)},
      {"since", or_null(record.since)},
      {"text", shown_text(record.text)},
      {"order", record.order == 0 ? json::value(nullptr) : json::value(record.order)},
      {"outcome", record.outcome ? json::value(vpatch::to_string(*record.outcome)) : nullptr},
      {"failure", record.failure},
      {"in_force", record.touched && record.state != DomainState::off},
      {"transition_us", or_null(times.transition)},
      {"pause_us", or_null(times.pause)},
      {"blockers", member(report, "blockers")}};
  if (explained) {
    for (const std::string_view key : {"verb", "summary", "hint", "findings", "kernel_log"}) {
      object[key] = member(report, key);
    }
    if (object["summary"].is_null()) {  // `health` has one under another name
      object["summary"] = member(report, "text");
    }
  }
  return object;
}

/// Both distributions of each kernel release, and of all of them.
json::array releases_to_json(const StoredRollout& rollout) {
  struct Times {
    std::uint64_t domains = 0;
    std::vector<Microseconds> transitions, pauses;
  };
  std::map<std::string, Times> releases;
  for (const RolloutDomain& domain : rollout.begin.domains) {
    Times& times = releases[domain.release];
    ++times.domains;
    const MeasuredTimes measured = times_of(domain);
    if (measured.transition) {
      times.transitions.push_back(*measured.transition);
    }
    if (measured.pause) {
      times.pauses.push_back(*measured.pause);
    }
  }
  json::array list;
  for (auto& [release, times] : releases) {
    list.push_back(json::object{{"release", or_null(release)},
                                {"domains", times.domains},
                                {"transition", to_json(quantiles_of(std::move(times.transitions)))},
                                {"pause", to_json(quantiles_of(std::move(times.pauses)))}});
  }
  return list;
}

json::array files_to_json(const StoredRollout& rollout) {
  json::array files;
  for (const RolloutFile& file : rollout.begin.files) {
    files.push_back(json::object{{"patch", shown_text(file.patch)},
                                 {"release", shown_text(file.release)},
                                 {"build_id", shown_text(file.build_id)},
                                 {"sha256", shown_text(file.sha256)},
                                 {"path", shown_text(file.path, 4096)}});
  }
  return files;
}

json::array waves_to_json(const rollout::Summary& summary) {
  json::array waves;
  for (std::size_t wave = 0; wave < summary.waves.size(); ++wave) {
    waves.push_back(json::object{{"wave", wave}, {"counts", to_json(summary.waves[wave])}});
  }
  return waves;
}

}  // namespace

json::object to_json(const StoredRollout& rollout, const std::vector<RolloutEvent>& events,
                     std::string_view verb) {
  const rollout::RolloutRecord& record = rollout.record;
  const rollout::Summary summary = summary_of(rollout);
  json::array domains;
  domains.reserve(rollout.begin.domains.size());
  for (const RolloutDomain& domain : rollout.begin.domains) {
    domains.push_back(to_json(rollout, domain));
  }
  json::array timeline;
  timeline.reserve(events.size());
  for (const RolloutEvent& event : events) {
    timeline.push_back(json::object{{"at", shown_text(event.at)},
                                    {"domain", name_or_null(rollout, event.domain)},
                                    {"kind", shown_text(event.kind)},
                                    {"text", shown_text(event.text)}});
  }
  return {{"schema", kSchema},
          {"verb", verb},
          {"rollout", shown_text(rollout.begin.name)},
          {"summary", outcome_sentence(rollout, summary)},
          {"started_at", shown_text(rollout.started_at)},
          {"ended_at", or_null(rollout.ended_at)},
          {"user", shown_text(rollout.user)},
          {"vpatch_version", shown_text(rollout.begin.vpatch_version)},
          {"course", rollout::to_string(record.course)},
          {"paused", record.paused},
          {"finished", record.finished},
          {"cause", rollout::to_string(record.cause)},
          {"cause_domain", name_or_null(rollout, record.domain)},
          {"cause_text", shown_text(record.text)},
          {"wave", record.wave},
          {"soak_until", record.soak_until ? or_null(*record.soak_until) : nullptr},
          {"failures", summary.failures},
          {"accepted_failures", record.accepted},
          {"budget", summary.budget},
          {"counts", to_json(summary.domains)},
          {"waves", waves_to_json(summary)},
          {"files", files_to_json(rollout)},
          {"releases", releases_to_json(rollout)},
          {"domains", std::move(domains)},
          {"timeline", std::move(timeline)}};
}

}  // namespace vpatch::fleet
