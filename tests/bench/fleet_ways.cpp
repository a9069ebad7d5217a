// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/fleet_ways.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/transition_log.h"

namespace vpatch::bench {
namespace {

namespace json = boost::json;
using test::FleetGuest;
using test::ProcessResult;

constexpr const char* kTakeOut =
    "cd /sys/kernel/livepatch; while [ -e vpatch_demo_v1 ]; do sleep 0.1; done; "
    "until /sbin/rmmod vpatch_demo_v1 2>/dev/null; do sleep 0.1; done";

ProcessResult must(const std::vector<std::string>& argv, int exit_code = 0) {
  ProcessResult result = test::run(argv);
  if (result.exit_code != exit_code) {
    throw std::runtime_error(
        fmt::format("exit code {}: {}{}", result.exit_code, result.out, result.err));
  }
  return result;
}

double wall_clock() {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return now.count();
}

/// Of "2026-11-21T09:41:23.000017Z", since 1970.
double seconds_of(const json::value& at) {
  const std::string text(at.as_string());
  std::tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) {
    throw std::runtime_error("no time: " + text);
  }
  return static_cast<double>(timegm(&parts)) + std::strtod(rest, nullptr);
}

double in_seconds(double ticks) {
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double in_seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

/// User and system time of a process and the children it has waited for; 0 when it is gone.
double cpu_of(const std::string& process) {
  std::string stat = test::read_file("/proc/" + process + "/stat");
  std::istringstream fields(stat.erase(0, std::min(stat.rfind(')') + 1, stat.size())));
  std::string skipped;
  for (int field = 3; field < 14; ++field) {
    fields >> skipped;
  }
  double ticks = 0;
  for (int field = 14; field < 18; ++field) {
    double one = 0;
    fields >> one;
    ticks += one;
  }
  return in_seconds(ticks);
}

/// All but idle time and waiting for disks, of all CPUs.
double cpu_of_machine() {
  std::ifstream stat("/proc/stat");
  std::string word;
  stat >> word;
  std::vector<double> ticks(8);
  for (double& one : ticks) {
    stat >> one;
  }
  constexpr std::size_t kIdle = 3;
  constexpr std::size_t kWaiting = 4;
  ticks[kIdle] = ticks[kWaiting] = 0;
  return in_seconds(std::accumulate(ticks.begin(), ticks.end(), 0.0));
}

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

/// The lines of the guest's kernel log.
std::vector<introspect::LogRecord> log_of(const FleetGuest& guest) {
  std::vector<introspect::LogRecord> records;
  std::istringstream lines(guest.vm().guest("dmesg | grep livepatch:"));
  for (std::string line; std::getline(lines, line);) {
    const auto end = line.find("] ");
    if (line.starts_with('[') && end != std::string::npos) {
      introspect::LogRecord record;
      record.time_ns = static_cast<std::uint64_t>(std::strtod(line.c_str() + 1, nullptr) * 1e9);
      record.text = line.substr(end + 2);
      records.push_back(std::move(record));
    }
  }
  return records;
}

void add(std::vector<Part>& parts, const std::string& name, double seconds) {
  const auto found = std::ranges::find(parts, name, &Part::name);
  if (found == parts.end()) {
    parts.push_back({name, seconds});
  } else {
    found->seconds += seconds;
  }
}

/// What an apply did when, by its journal: which step ends which part.
std::string part_ended_by(const json::value& event) {
  const std::string kind(event.at("kind").as_string());
  if (kind == "load") {
    return "delivery";
  }
  if (kind == "end") {
    return "verification";
  }
  const json::value* text = event.at("detail").as_object().if_contains("text");
  if (kind != "step" || text == nullptr || !text->is_string()) {
    return "";
  }
  const std::string_view said = text->get_string();
  if (said.starts_with("none of") || said.find("would hold it up") != std::string_view::npos) {
    return "preflight";
  }
  return said.starts_with("loaded ") ? "load and transition" : "";
}

}  // namespace

CpuTimes FleetRace::cpu() const {
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  std::string libvirtd = test::read_file("/run/libvirtd.pid");
  libvirtd.erase(std::min(libvirtd.find_last_not_of('\n') + 1, libvirtd.size()));
  CpuTimes times{.tools = in_seconds(children.ru_utime) + in_seconds(children.ru_stime),
                 .libvirtd = cpu_of(libvirtd),
                 .machine = cpu_of_machine()};
  for (const auto& guest : fleet_) {
    times.guests += cpu_of(std::to_string(guest->vm().pid()));
  }
  return times;
}

void FleetRace::measure_transitions(WayResult& result) const {
  for (const auto& guest : fleet_) {
    const auto took = transition_ms(log_of(*guest), kFleetPatch, Direction::patching);
    if (!took) {
      throw std::runtime_error(guest->name() + ": its log has no transition");
    }
    result.transitions.push_back(*took / 1000);
  }
}

// By virsh.

WayResult FleetRace::virsh_loop(unsigned at_once) const {
  WayResult result{.name =
                       at_once == 1 ? "loop, in turn" : fmt::format("loop, {} at once", at_once)};
  std::vector<std::string> argv = {VPATCH_SOURCE_DIR "/tests/bench/virsh-loop", "--parallel",
                                   std::to_string(at_once)};
  for (const auto& guest : fleet_) {
    argv.push_back(guest->name() + "=" + guest->module(kFleetPatch));
  }
  const CpuTimes before = cpu();
  const double begin = wall_clock();
  const ProcessResult loop = must(argv);
  result.total = wall_clock() - begin;
  const CpuTimes after = cpu();
  result.load = load_average();
  result.cpu = {after.tools - before.tools, after.libvirtd - before.libvirtd,
                after.guests - before.guests, after.machine - before.machine};
  std::istringstream lines(loop.out);
  for (std::string line; std::getline(lines, line);) {
    const json::value one = json::parse(line);
    if (one.as_object().contains("domain")) {
      const double delivered = one.at("delivered_s").to_number<double>();
      const double loaded = one.at("loaded_s").to_number<double>();
      add(result.parts, "delivery", delivered);
      add(result.parts, "load", loaded - delivered);
      add(result.parts, "transition", one.at("total_s").to_number<double>() - loaded);
    }
  }
  measure_transitions(result);
  return result;
}

void FleetRace::take_back_by_rmmod() const {
  for (const auto& guest : fleet_) {
    guest->vm().guest(fmt::format("echo 0 >/sys/kernel/livepatch/{}/enabled", kFleetPatch));
  }
  for (const auto& guest : fleet_) {
    guest->vm().guest(kTakeOut);
  }
}

// By a rollout.

std::vector<std::string> FleetRace::vpatch(const std::string& name,
                                           std::vector<std::string> words) const {
  // What it learned of a guest in an earlier run of this benchmark must not help it.
  words.insert(words.begin(), {"env", fmt::format("VPATCH_JOURNAL={}/{}.db", folder_, name),
                               fmt::format("VPATCH_BOOT_CACHE={}/cache", folder_), VPATCH_PROGRAM});
  return words;
}

std::string FleetRace::write_plan(const RolloutCare& care) const {
  std::map<std::string, std::string> files;
  for (const auto& guest : fleet_) {
    const std::filesystem::path file = guest->module(kFleetPatch);
    std::string release = test::read_file(file.parent_path().parent_path() / "release");
    release.erase(release.find_last_not_of('\n') + 1);
    files[release] = file;
  }
  std::string text = fmt::format("name: {}\nfiles:\n", care.name);
  for (const auto& [release, file] : files) {
    text += fmt::format("  - {{kernel: {}, file: {}}}\n", release, file);
  }
  text += "connections: [\"qemu:///system\"]\ndomains: {names: [";
  for (const auto& guest : fleet_) {
    text += guest->name() + ", ";
  }
  text += fmt::format(
      "]}}\ncanary: {{amount: 1, soak: {}s}}\n"
      "waves: [{{amount: 20%}}, {{amount: 40%}}, {{amount: 100%}}]\n"
      "limits: {{parallel: {}, parallel_per_connection: {}}}\nhealthy_for: {}s\n",
      care.soak, parallel_, parallel_, care.healthy_for);
  std::string path = fmt::format("{}/{}.yaml", folder_, care.name);
  test::write_file(path, text);
  return path;
}

WayResult FleetRace::rollout(const RolloutCare& care) const {
  WayResult result{.name = care.healthy_for == 0 ? "rollout" : "rollout, with care"};
  const auto argv = vpatch(care.name, {"rollout", "start", write_plan(care)});
  const CpuTimes before = cpu();
  const double begin = wall_clock();
  must(argv);
  result.total = wall_clock() - begin;
  const CpuTimes after = cpu();
  result.load = load_average();
  result.cpu = {after.tools - before.tools, after.libvirtd - before.libvirtd,
                after.guests - before.guests, after.machine - before.machine};
  measure_transitions(result);
  add_report(care.name, begin, result);
  must(vpatch(care.name, {"rollout", "report", care.name, "-o",
                          fmt::format("{}/{}.html", folder_, care.name)}));
  return result;
}

void FleetRace::add_report(const std::string& name, double started, WayResult& result) const {
  const json::value report =
      json::parse(must(vpatch(name, {"rollout", "report", name, "--json"})).out);
  std::map<std::string, std::map<std::string, double>> moments;  // of each domain, by state
  std::map<double, int> at_work;                                 // begins and ends
  for (const json::value& event : report.at("timeline").as_array()) {
    if (event.at("domain").is_null()) {
      continue;
    }
    const std::string kind(event.at("kind").as_string());
    const double at = seconds_of(event.at("at"));
    moments[std::string(event.at("domain").as_string())][kind] = at;
    at_work[at] += kind == "applying" ? 1 : kind == "done" ? -1 : 0;
  }
  result.begin = at_work.begin()->first - started;
  result.idle = result.total - (at_work.rbegin()->first - at_work.begin()->first);
  int busy = 0;
  double last = at_work.begin()->first;
  for (const auto& [at, change] : at_work) {
    result.idle += busy == 0 ? at - last : 0;
    busy += change;
    last = at;
  }
  const json::value history =
      json::parse(must(vpatch(name, {"history", "--json", "--verb", "apply"})).out);
  for (const json::value& listed : history.at("operations").as_array()) {
    const auto& states = moments.at(std::string(listed.at("domain").as_string()));
    const json::value one =
        json::parse(must(vpatch(name, {"history", "--json", "--id",
                                       std::to_string(listed.at("id").as_int64())}))
                        .out);
    const json::value& operation = one.at("operations").at(0);
    double before = seconds_of(operation.at("started_at"));
    add(result.parts, "look before", before - states.at("applying"));
    for (const json::value& event : operation.at("events").as_array()) {
      if (const std::string part = part_ended_by(event); !part.empty()) {
        const double at = seconds_of(event.at("at"));
        add(result.parts, part, at - before);
        before = at;
      }
    }
    add(result.parts, "answer", states.at("watching") - before);
    add(result.parts, "health", states.at("done") - states.at("watching"));
  }
  for (const json::value& domain : report.at("domains").as_array()) {
    if (domain.at("pause_us").is_int64()) {
      result.paused += domain.at("pause_us").to_number<double>() / 1e6;
    }
  }
}

double FleetRace::roll_back(const std::string& name) const {
  constexpr int kRolledBack = 4;
  const double begin = wall_clock();
  must(vpatch(name, {"rollout", "rollback", name}), kRolledBack);
  return wall_clock() - begin;
}

}  // namespace vpatch::bench
