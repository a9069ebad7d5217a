// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/page.h"

#include <limits>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include "vmm-agent/fleet/measured_times.h"
#include "vmm-agent/serve/protocol.h"

namespace vpatch::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using std::chrono::system_clock;

using Labels = std::vector<ClientMetric::Label>;

double unix_seconds(system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

/// One metric, as it is filled.
class Family {
 public:
  Family(MetricType type, std::string name, std::string help) {
    family_.type = type;
    family_.name = std::move(name);
    family_.help = std::move(help);
  }

  void add(Labels labels, double value) {
    ClientMetric& metric = add(std::move(labels));
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }

  void add(Labels labels, const Histogram& histogram) {
    ClientMetric& metric = add(std::move(labels));
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
      count += histogram.counts[i];
      metric.histogram.bucket.push_back({count, i < histogram.bounds.size()
                                                    ? histogram.bounds[i]
                                                    : std::numeric_limits<double>::infinity()});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = histogram.sum;
  }

  MetricFamily take() && { return std::move(family_); }

 private:
  ClientMetric& add(Labels labels) {
    family_.metric.emplace_back().label = std::move(labels);
    return family_.metric.back();
  }

  MetricFamily family_;
};

Family gauge(std::string name, std::string help) {
  return {MetricType::Gauge, std::move(name), std::move(help)};
}

void take(std::vector<MetricFamily>& metrics, Family family) {
  metrics.push_back(std::move(family).take());
}

const LastTransition* last_of(const Figures* figures, const std::string& identity) {
  if (figures == nullptr) {
    return nullptr;
  }
  const auto found = figures->last.find(identity);
  return found == figures->last.end() ? nullptr : &found->second;
}

void add_domains(std::vector<MetricFamily>& metrics, const PageFacts& facts) {
  Family up = gauge("vpatch_domain_up", "Whether the last look could read the guest's memory.");
  Family looked = gauge("vpatch_domain_last_look_timestamp_seconds",
                        "When a look could last read the guest's memory, in Unix time.");
  Family livepatch = gauge("vpatch_livepatch_info", "1 for each livepatch wholly in force.");
  Family running = gauge("vpatch_domain_transition_running",
                         "Whether a livepatch transition runs in the guest.");
  Family pending = gauge("vpatch_domain_pending_tasks",
                         "Tasks that the running transition waits for; 0 when none runs.");
  Family reboot = gauge("vpatch_domain_reboot_planned",
                        "Whether a transition was forced since the guest booted.");
  Family tainted = gauge("vpatch_domain_tainted", "The guest kernel's taint mask.");
  Family transition = gauge("vpatch_last_transition_seconds",
                            "Duration of the transition of the domain's newest operation.");
  Family pause = gauge("vpatch_last_pause_seconds",
                       "All pauses of the guest by the domain's newest operation together.");
  std::set<std::pair<std::string, std::string>> named;
  for (const auto& [key, domain] : facts.domains) {
    if (!named.emplace(key.first, domain.name).second) {
      continue;  // made printable, two names are one: a series is there once
    }
    const Labels labels = {{"connection", key.first}, {"domain", domain.name}};
    if (const LastTransition* last = last_of(facts.figures, key.second)) {
      transition.add(labels, last->transition_seconds);
      pause.add(labels, last->pause_seconds);
    }
    if (domain.looked_at) {
      looked.add(labels, unix_seconds(*domain.looked_at));
    }
    if (!domain.up) {
      continue;
    }
    up.add(labels, *domain.up ? 1 : 0);
    if (!*domain.up) {
      continue;  // what was seen once may no longer be so
    }
    const DomainLook& look = domain.look;
    for (const LivepatchInForce& patch : look.in_force) {
      Labels all = labels;
      all.push_back({"patch", patch.name});
      all.push_back({"role", patch.role});
      if (!patch.build_id.empty()) {
        all.push_back({"build_id", patch.build_id});
      }
      livepatch.add(std::move(all), 1);
    }
    running.add(labels, look.transition_running ? 1 : 0);
    if (look.pending) {
      pending.add(labels, static_cast<double>(*look.pending));
    }
    reboot.add(labels, look.reboot_planned ? 1 : 0);
    tainted.add(labels, static_cast<double>(look.tainted));
  }
  for (Family* family :
       {&up, &looked, &livepatch, &running, &pending, &reboot, &tainted, &transition, &pause}) {
    take(metrics, std::move(*family));
  }
}

template <class ByVerb>
void add_histogram(std::vector<MetricFamily>& metrics, const char* name, const char* help,
                   const ByVerb* by_verb) {
  Family family(MetricType::Histogram, name, help);
  if (by_verb != nullptr) {
    for (const auto& [verb, values] : *by_verb) {
      family.add({{"verb", verb}}, values);
    }
  }
  take(metrics, std::move(family));
}

void add_journal(std::vector<MetricFamily>& metrics, const Figures* figures) {
  Family operations(MetricType::Counter, "vpatch_operations_total",
                    "Operations of the journal that have ended, by verb and outcome.");
  if (figures != nullptr) {
    for (const auto& [kind, count] : figures->operations) {
      operations.add({{"verb", kind.first}, {"outcome", kind.second}}, static_cast<double>(count));
    }
  }
  take(metrics, std::move(operations));
  add_histogram(metrics, "vpatch_transition_seconds",
                "Durations of the transitions of the journal.",
                figures == nullptr ? nullptr : &figures->transitions);
  add_histogram(metrics, "vpatch_pause_seconds",
                "Pauses of guests by the operations of the journal that paused one.",
                figures == nullptr ? nullptr : &figures->pauses);
}

bool is_shown(const fleet::RolloutLine& rollout, system_clock::time_point now) {
  if (!rollout.record.finished) {
    return true;
  }
  const auto ended = fleet::parse_utc(rollout.ended_at);
  return ended && now - *ended < kRolloutKept;
}

void add_rollouts(std::vector<MetricFamily>& metrics, const PageFacts& facts) {
  Family domains = gauge("vpatch_rollout_domains", "Domains of a rollout in each state.");
  Family wave = gauge("vpatch_rollout_wave", "The wave at work; 0 is the canary.");
  Family paused = gauge("vpatch_rollout_paused", "Whether the rollout is paused.");
  Family finished = gauge("vpatch_rollout_finished", "Whether nothing is left to do.");
  Family started =
      gauge("vpatch_rollout_started_timestamp_seconds", "When the rollout began, in Unix time.");
  for (const fleet::RolloutLine& rollout : facts.rollouts) {
    if (!is_shown(rollout, facts.now)) {
      continue;
    }
    const Labels labels = {{"rollout", serve::printable(rollout.name)}};
    for (std::size_t i = 0; i < rollout::kDomainStates; ++i) {
      const auto state = static_cast<rollout::DomainState>(i);
      Labels all = labels;
      all.push_back({"state", std::string(to_string(state))});
      domains.add(std::move(all), rollout.domains.of(state));
    }
    wave.add(labels, rollout.record.wave);
    paused.add(labels, rollout.record.paused ? 1 : 0);
    finished.add(labels, rollout.record.finished ? 1 : 0);
    if (const auto time = fleet::parse_utc(rollout.started_at)) {
      started.add(labels, unix_seconds(*time));
    }
  }
  for (Family* family : {&domains, &wave, &paused, &finished, &started}) {
    take(metrics, std::move(*family));
  }
}

}  // namespace

std::vector<MetricFamily> metrics_of(const PageFacts& facts) {
  std::vector<MetricFamily> metrics;
  add_domains(metrics, facts);
  add_journal(metrics, facts.figures);
  add_rollouts(metrics, facts);
  Family build = gauge("vpatch_build_info", "1, with the version of vpatch.");
  build.add({{"version", facts.version}}, 1);
  take(metrics, std::move(build));
  Family errors(MetricType::Counter, "vpatch_exporter_errors_total",
                "What the exporter could not read since it started, by source.");
  for (const auto& [source, count] : facts.errors) {
    errors.add({{"source", source}}, static_cast<double>(count));
  }
  take(metrics, std::move(errors));
  return metrics;
}

std::string render(const std::vector<MetricFamily>& metrics) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, metrics);
  return std::move(text).str();
}

}  // namespace vpatch::exporter
