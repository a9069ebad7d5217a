// SPDX-License-Identifier: Apache-2.0
// The same fleet patched by a shell loop around virsh and by `vpatch rollout start`, turn about in
// one run: how long each takes, and with what.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/bench/fleet_ways.h"

namespace vpatch::bench {
namespace {

namespace json = boost::json;
using test::FleetLoad;

/// For the guests, after a patch was taken out of all of them.
constexpr std::chrono::seconds kRest{10};
constexpr unsigned kCare = 10;  ///< seconds

struct Arguments {
  unsigned guests = 16;
  unsigned parallel = 4;
  std::string json;
};

/// Of one guest that a kernel thread keeps busy too. It runs 6.12 since on 6.1 only a switch by the
/// host gets such a guest patched.
constexpr std::size_t kPoller = 5;

std::vector<test::FleetMember> members(unsigned count) {
  auto fleet = test::mixed_fleet(count);
  for (const std::size_t busy : {std::size_t{2}, std::size_t{3}, kPoller}) {
    if (busy < fleet.size()) {
      fleet[busy].load = FleetLoad::readers;
    }
  }
  return fleet;
}

/// It calls schedule(): with one that calls cond_resched() the kernel does not end an unpatching.
void start_poller(const test::TestFleet& fleet) {
  if (kPoller < fleet.size()) {
    fleet[kPoller].vm().guest("echo thread poll-schedule >/sys/kernel/vpatch_target/control");
  }
}

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

void print(const WayResult& way, const WayResult& first, std::size_t guests) {
  const auto cores = static_cast<double>(std::max(1U, std::thread::hardware_concurrency()));
  const double ours = way.cpu.tools + way.cpu.libvirtd + way.cpu.guests;
  fmt::print(
      "\n{}\n  total {:.1f} s, {:.2f} s a guest, {:.2f} times the first; load {:.1f}\n"
      "  transitions: {:.2f} s together, longest {:.2f} s; pauses {:.1f} ms together\n"
      "  CPU: tools {:.1f} s, libvirtd {:.1f} s, guests {:.1f} s, others {:.1f} s; {:.0f} % of "
      "{:g} "
      "CPUs\n",
      way.name, way.total, way.total / static_cast<double>(guests), way.total / first.total,
      way.load, sum(way.transitions), *std::ranges::max_element(way.transitions), way.paused * 1000,
      way.cpu.tools, way.cpu.libvirtd, way.cpu.guests, std::max(0.0, way.cpu.machine - ours),
      100 * way.cpu.machine / way.total / cores, cores);
  if (way.begin > 0) {
    fmt::print("  before the first guest {:.1f} s; no guest at work {:.1f} s of all\n", way.begin,
               way.idle);
  }
  double all = 0;
  for (const Part& part : way.parts) {
    all += part.seconds;
  }
  std::string most;
  double longest = 0;
  for (const Part& part : way.parts) {
    fmt::print("  {:<20} {:7.2f} s of all guests' {:.1f} s  {:3.0f} %\n", part.name, part.seconds,
               all, 100 * part.seconds / all);
    if (part.seconds > longest) {
      longest = part.seconds;
      most = part.name;
    }
  }
  fmt::print("  longest part: {}\n", most);
}

json::object to_json(const WayResult& way) {
  json::object parts;
  for (const Part& part : way.parts) {
    parts[part.name] = part.seconds;
  }
  return {{"name", way.name},
          {"total_s", way.total},
          {"begin_s", way.begin},
          {"idle_s", way.idle},
          {"transitions_s", json::array(way.transitions.begin(), way.transitions.end())},
          {"paused_s", way.paused},
          {"tools_cpu_s", way.cpu.tools},
          {"libvirtd_cpu_s", way.cpu.libvirtd},
          {"guests_cpu_s", way.cpu.guests},
          {"machine_cpu_s", way.cpu.machine},
          {"load", way.load},
          {"parts_s", std::move(parts)}};
}

std::vector<WayResult> race(const test::TestFleet& fleet, const Arguments& arguments,
                            const std::string& folder) {
  const FleetRace race(fleet, arguments.parallel, folder);
  std::vector<WayResult> ways;
  const auto add = [&](WayResult way, const auto& take_back) {
    ways.push_back(std::move(way));
    print(ways.back(), ways.front(), fleet.size());
    take_back();
    std::this_thread::sleep_for(kRest);
  };
  const auto by_rmmod = [&] { race.take_back_by_rmmod(); };
  const auto by_rollback = [&](const std::string& name) {
    return [&race, name] { fmt::print("  its rollback: {:.1f} s\n", race.roll_back(name)); };
  };
  add(race.virsh_loop(1), by_rmmod);
  add(race.virsh_loop(arguments.parallel), by_rmmod);
  add(race.rollout({.name = "fast"}), by_rollback("fast"));
  add(race.rollout({.name = "careful", .healthy_for = kCare, .soak = kCare}),
      by_rollback("careful"));
  return ways;
}

void write(const Arguments& arguments, const std::vector<WayResult>& ways,
           const std::string& folder) {
  namespace fs = std::filesystem;
  json::array list;
  for (const WayResult& way : ways) {
    list.push_back(to_json(way));
  }
  const json::object all{{"schema", 1},
                         {"guests", arguments.guests},
                         {"parallel", arguments.parallel},
                         {"ways", std::move(list)}};
  std::ofstream(arguments.json) << json::serialize(all) << '\n';
  for (const char* name : {"fast", "careful"}) {
    const fs::path page = fs::path(arguments.json).replace_extension(fmt::format("{}.html", name));
    fs::copy_file(fmt::format("{}/{}.html", folder, name), page,
                  fs::copy_options::overwrite_existing);
    fmt::print("report of the rollout: {}\n", page.string());
  }
}

int run(const Arguments& arguments) {
  const auto folder = (std::filesystem::temp_directory_path() / "vpatch-bench-fleet").string();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto begin = std::chrono::steady_clock::now();
  const test::TestFleet fleet("vpatch-bench-fleet", members(arguments.guests));
  start_poller(fleet);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  fmt::print("{} guests up after {:.0f} s\n", fleet.size(), took.count());
  std::this_thread::sleep_for(kRest);
  const auto ways = race(fleet, arguments, folder);
  int exit_code = 0;
  for (const auto& guest : fleet) {
    if (const std::string trouble = guest->vm().trouble(); !trouble.empty()) {
      fmt::print("{}: {}\n", guest->name(), trouble);
      exit_code = 1;
    }
  }
  if (!arguments.json.empty()) {
    write(arguments, ways, folder);
  }
  std::filesystem::remove_all(folder);
  return exit_code;
}

}  // namespace
}  // namespace vpatch::bench

int main(int argc, char** argv) {
  vpatch::bench::Arguments arguments;
  CLI::App app("A fleet patched by a loop around virsh and by a rollout");
  app.add_option("--guests", arguments.guests, "How many, half of each kernel")
      ->check(CLI::Range(4U, 64U));
  app.add_option("--parallel", arguments.parallel, "How many at once")->check(CLI::Range(1U, 64U));
  app.add_option("--json", arguments.json, "Write the figures here, and the reports beside them");
  CLI11_PARSE(app, argc, argv);
  try {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    return vpatch::bench::run(arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "fleet_race: {}\n", error.what());
    return 1;
  }
}
