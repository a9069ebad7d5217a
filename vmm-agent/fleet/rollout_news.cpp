// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <fmt/format.h>

#include "vmm-agent/fleet/measured_times.h"
#include "vmm-agent/fleet/page_text.h"
#include "vmm-agent/fleet/rollout_view.h"
#include "vmm-agent/fleet/rollout_words.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::fleet {
namespace {

namespace json = boost::json;
using rollout::DomainState;

const RolloutDomain* domain_of(const StoredRollout& rollout, const RolloutEvent& event) {
  return event.domain && *event.domain < rollout.begin.domains.size()
             ? &rollout.begin.domains[*event.domain]
             : nullptr;
}

/// The times belong to the news that an apply has ended.
bool has_ended(const RolloutEvent& event) {
  const auto state = rollout::parse_domain_state(event.kind);
  return state && (*state == DomainState::watching || rollout::is_end(*state) ||
                   *state == DomainState::inconclusive);
}

}  // namespace

std::string plain_line(const StoredRollout& rollout, const RolloutEvent& event) {
  const auto at = parse_utc(event.at);
  std::string line = at ? date_and_time(*at) : shown_text(event.at);
  const RolloutDomain* domain = domain_of(rollout, event);
  line += fmt::format(" {}: {}", shown_text(domain != nullptr ? domain->name : rollout.begin.name),
                      shown_text(event.kind));
  if (!event.text.empty()) {
    line += ": " + shown_text(event.text);
  }
  // What else a verb has ended as says its times by itself.
  if (domain != nullptr && event.kind == to_string(DomainState::done)) {
    const MeasuredTimes times = times_of(*domain);
    if (times.transition) {
      line += ", transition " + short_time(*times.transition);
    }
    if (times.pause) {
      line += ", pause " + short_time(*times.pause);
    }
  }
  return line + '\n';
}

json::object json_event(const StoredRollout& rollout, const RolloutEvent& event) {
  json::object object{{"schema", 1},
                      {"verb", "rollout"},
                      {"rollout", shown_text(rollout.begin.name)},
                      {"at", shown_text(event.at)},
                      {"domain", nullptr},
                      {"kind", shown_text(event.kind)},
                      {"text", shown_text(event.text)}};
  const RolloutDomain* domain = domain_of(rollout, event);
  if (domain == nullptr) {
    return object;
  }
  const rollout::DomainRecord& record = domain->record;
  const bool ended = has_ended(event);
  const MeasuredTimes times = ended ? times_of(*domain) : MeasuredTimes();
  const json::object* report = ended ? telling_report(*domain) : nullptr;
  const json::value* blockers = report == nullptr ? nullptr : report->if_contains("blockers");
  object["domain"] = shown_text(domain->name);
  object["connection"] = shown_text(domain->connection);
  object["wave"] = domain->wave;
  object["order"] = record.order == 0 ? json::value(nullptr) : json::value(record.order);
  object["outcome"] =
      ended && record.outcome ? json::value(vpatch::to_string(*record.outcome)) : nullptr;
  object["transition_us"] = or_null(times.transition);
  object["pause_us"] = or_null(times.pause);
  object["blockers"] =
      blockers == nullptr ? json::value(nullptr) : serve::printable_value(*blockers);
  return object;
}

}  // namespace vpatch::fleet
