// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "vmm-agent/duration.h"
#include "vmm-agent/rollout/apply_options.h"
#include "vmm-agent/rollout/plan.h"

namespace vpatch::rollout {
namespace {

using YAML::BeginMap;
using YAML::BeginSeq;
using YAML::EndMap;
using YAML::EndSeq;

/// Quoted, so that no text is taken for anything else.
void write(YAML::Emitter& out, const char* key, const std::string& text) {
  out << YAML::Key << key << YAML::Value << YAML::DoubleQuoted << text;
}

void write(YAML::Emitter& out, const char* key, std::chrono::milliseconds duration) {
  out << YAML::Key << key << YAML::Value << format_duration(duration);
}

void write(YAML::Emitter& out, const char* key, const Amount& amount) {
  out << YAML::Key << key << YAML::Value
      << fmt::format("{}{}", amount.value, amount.unit == Amount::Unit::percent ? "%" : "");
}

/// Nothing for an empty list, which a plan does not have.
void write(YAML::Emitter& out, const char* key, const std::vector<std::string>& texts) {
  if (texts.empty()) {
    return;
  }
  out << YAML::Key << key << YAML::Value << YAML::Flow << BeginSeq;
  for (const std::string& text : texts) {
    out << YAML::DoubleQuoted << text;
  }
  out << EndSeq;
}

void begin(YAML::Emitter& out, const char* key) {
  out << YAML::Key << key << YAML::Value << BeginMap;
}

void write_files(YAML::Emitter& out, const Plan& plan) {
  out << YAML::Key << "files" << YAML::Value << BeginSeq;
  for (const PlannedFile& planned : plan.files) {
    out << BeginMap;
    write(out, "kernel", planned.kernel);
    write(out, "file", planned.file.string());
    out << EndMap;
  }
  out << EndSeq;
}

void write_selection(YAML::Emitter& out, const Selection& selection) {
  write(out, "names", selection.names);
  write(out, "groups", selection.groups);
  write(out, "except", selection.except);
}

void write_canary(YAML::Emitter& out, const Canary& canary) {
  begin(out, "canary");
  write(out, "names", canary.domains.names);
  write(out, "groups", canary.domains.groups);
  if (canary.amount) {
    write(out, "amount", *canary.amount);
  }
  write(out, "soak", canary.soak);
  out << EndMap;
}

void write_waves(YAML::Emitter& out, const Plan& plan) {
  out << YAML::Key << "waves" << YAML::Value << BeginSeq;
  for (const Wave& wave : plan.waves) {
    out << BeginMap;
    write(out, "amount", wave.amount);
    write(out, "soak", wave.soak);
    out << EndMap;
  }
  out << EndSeq;
}

void write_limits(YAML::Emitter& out, const Limits& limits) {
  begin(out, "limits");
  out << YAML::Key << "parallel" << YAML::Value << limits.parallel;
  out << YAML::Key << "parallel_per_connection" << YAML::Value << limits.parallel_per_connection;
  write(out, "budget", limits.budget);
  write(out, "per_domain", limits.per_domain);
  write(out, "progress", limits.progress);
  out << EndMap;
}

void write_checks(YAML::Emitter& out, const Plan& plan) {
  if (plan.checks.empty()) {
    return;
  }
  out << YAML::Key << "checks" << YAML::Value << BeginSeq;
  for (const HealthCommand& check : plan.checks) {
    out << BeginMap;
    write(out, "name", check.name);
    write(out, "command", check.argv);
    out << YAML::Key << "where" << YAML::Value << (check.in_guest ? "guest" : "host");
    write(out, "timeout", check.timeout);
    out << EndMap;
  }
  out << EndSeq;
}

std::string time_of_day(std::chrono::minutes time) {
  return fmt::format("{:02}:{:02}", time.count() / 60, time.count() % 60);
}

void write_window(YAML::Emitter& out, const MaintenanceWindow& window) {
  constexpr std::array kDays = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
  begin(out, "window");
  out << YAML::Key << "days" << YAML::Value << YAML::Flow << BeginSeq;
  for (std::size_t day = 0; day < kDays.size(); ++day) {
    if (window.days[day]) {
      out << kDays[day];
    }
  }
  out << EndSeq;
  write(out, "from", time_of_day(window.from));
  write(out, "to", time_of_day(window.to));
  write(out, "zone", window.zone);
  write(out, "cutoff", window.cutoff);
  out << EndMap;
}

std::string word_of(OnFailure what) {
  return what == OnFailure::pause ? "pause" : what == OnFailure::abort ? "abort" : "rollback";
}

}  // namespace

std::string to_yaml(const Plan& plan) {
  YAML::Emitter out;
  out << BeginMap;
  write(out, "name", plan.name);
  write_files(out, plan);
  write(out, "connections", plan.selection.connections);
  const Selection& selection = plan.selection;
  if (!selection.names.empty() || !selection.groups.empty() || !selection.except.empty()) {
    begin(out, "domains");
    write_selection(out, selection);
    out << EndMap;
  }
  if (plan.canary) {
    write_canary(out, *plan.canary);
  }
  write_waves(out, plan);
  write_limits(out, plan.limits);
  write(out, "healthy_for", plan.healthy_for);
  write_checks(out, plan);
  out << YAML::Key << "on_failure" << YAML::Value << word_of(plan.on_failure);
  out << YAML::Key << "on_overlap" << YAML::Value
      << (plan.on_overlap == OnOverlap::queue ? "queue" : "refuse");
  if (plan.window) {
    write_window(out, *plan.window);
  }
  out << YAML::Key << "persist" << YAML::Value << plan.persist;
  if (!plan.apply_options.empty()) {
    out << YAML::Key << "apply" << YAML::Value;
    write_apply_options(out, plan.apply_options);
  }
  out << EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace vpatch::rollout
