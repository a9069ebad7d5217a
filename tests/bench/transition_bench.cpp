// SPDX-License-Identifier: Apache-2.0
// What vpatch's help is worth: the same livepatch put in force and taken back by the kernel at its
// own pace and with vpatch's help, turn about on one VM in one run, timed by the guest's own log.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "tests/bench/transition_guest.h"

namespace vpatch::bench {
namespace {

struct Arguments {
  std::vector<std::string> kernels{"6.1", "6.12"};
  std::vector<std::string> scenarios;
  int rounds = 20;
  std::string json;
};

struct Results {
  std::vector<Row> rows;
  std::vector<Verdict> stalls;  ///< of the scenarios that nobody can end
  std::vector<std::string> failures;
};

/// One of so many rounds times the stock kernel too, where that takes it long.
constexpr int kStockWaitsEach = 4;

bool chosen(const Arguments& arguments, const std::string& id) {
  return arguments.scenarios.empty() ||
         std::ranges::find(arguments.scenarios, id) != arguments.scenarios.end();
}

/// One patching and one unpatching. The rows are those of the scenario, in that order.
void one_side(TransitionGuest& guest, const Scenario& scenario, Side side, Row& patching,
              Row& unpatching) {
  const auto add = [side](Row& row, const Transition& transition) {
    (side == Side::stock ? row.stock : row.assisted).push_back(transition);
  };
  add(patching, guest.patch(scenario, side));
  add(unpatching, guest.unpatch(scenario, side));
}

void round_of(TransitionGuest& guest, const Scenario& scenario, int round, Row& patching,
              Row& unpatching) {
  if (scenario.stalls) {
    guest.stall(scenario);
    return;
  }
  if (!scenario.stock_waits || round % kStockWaitsEach == 0) {
    one_side(guest, scenario, Side::stock, patching, unpatching);
  }
  one_side(guest, scenario, Side::assisted, patching, unpatching);
}

void run_scenario(TransitionGuest& guest, const std::string& kernel, const Scenario& scenario,
                  int rounds, Results& results) {
  Row patching{.kernel = kernel,
               .scenario = scenario.id,
               .direction = Direction::patching,
               .bars = scenario.patching,
               .note = scenario.note};
  Row unpatching{.kernel = kernel,
                 .scenario = scenario.id,
                 .direction = Direction::unpatching,
                 .bars = scenario.unpatching,
                 .note = scenario.unpatching_note};
  int good = 0;
  guest.start_load(scenario);
  for (int round = 0; round < rounds; ++round) {
    try {
      round_of(guest, scenario, round, patching, unpatching);
      ++good;
    } catch (const std::runtime_error& error) {
      results.failures.push_back(
          fmt::format("{} {} round {}: {}", kernel, scenario.id, round + 1, error.what()));
      fmt::print("FAILED {}\n", results.failures.back());
      guest.restore(scenario);
      guest.start_load(scenario);
    }
  }
  guest.end_load(scenario);
  if (scenario.stalls) {
    results.stalls.push_back(
        {fmt::format("{} {}: {} of {} rounds named the blocker and its stack, reverted in time, "
                     "waited when asked, and ended when it was let go",
                     kernel, scenario.id, good, rounds),
         good == rounds});
  } else {
    print_rows({patching, unpatching});
    results.rows.push_back(std::move(patching));
    results.rows.push_back(std::move(unpatching));
  }
  std::fflush(stdout);
}

void run_kernel(const std::string& kernel, const Arguments& arguments, Results& results) {
  setenv("VPATCH_VM_KERNEL", kernel.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
  setenv("VPATCH_VM_BACKEND", "qemu", 1);         // NOLINT(concurrency-mt-unsafe)
  try {
    TransitionGuest guest(kernel);
    for (const Scenario& scenario : scenarios_of(kernel)) {
      if (chosen(arguments, scenario.id)) {
        const int rounds =
            scenario.stalls ? std::max(1, arguments.rounds / kStockWaitsEach) : arguments.rounds;
        run_scenario(guest, kernel, scenario, rounds, results);
      }
    }
    guest.read_log();
    for (const std::string& line : guest.trouble()) {
      results.failures.push_back(fmt::format("{}: the guest's log says: {}", kernel, line));
    }
  } catch (const std::exception& error) {
    results.failures.push_back(fmt::format("{}: given up: {}", kernel, error.what()));
  }
}

void print_verdicts(const std::vector<Verdict>& verdicts) {
  for (const Verdict& verdict : verdicts) {
    fmt::print("{:<6} {}\n", verdict.met ? "met" : "missed", verdict.text);
  }
}

void print_all(const Results& results) {
  print_rows(results.rows);
  fmt::print("\n");
  for (const Row& row : results.rows) {
    print_verdicts(verdicts_of(row));
  }
  print_verdicts(results.stalls);
  for (const std::string& failure : results.failures) {
    fmt::print("FAILED {}\n", failure);
  }
}

void write_json(const Results& results, const Arguments& arguments) {
  boost::json::array rows;
  for (const Row& row : results.rows) {
    rows.push_back(to_json(row));
  }
  boost::json::array stalls;
  for (const Verdict& verdict : results.stalls) {
    stalls.push_back(to_json(verdict));
  }
  boost::json::array failures(results.failures.begin(), results.failures.end());
  std::ofstream file(arguments.json);
  file << boost::json::serialize(boost::json::object{{"rounds", arguments.rounds},
                                                     {"rows", std::move(rows)},
                                                     {"stalls", std::move(stalls)},
                                                     {"failures", std::move(failures)}})
       << '\n';
  if (!file.flush()) {
    throw std::runtime_error(arguments.json + " cannot be written");
  }
}

/// The host's load average over a minute: figures from a busy host are worth less.
std::string host_load() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? fmt::format("{:.1f}", load) : "unknown";
}

int run(const Arguments& arguments) {
  Results results;
  const std::string load_before = host_load();
  for (const std::string& kernel : arguments.kernels) {
    run_kernel(kernel, arguments, results);
  }
  print_all(results);
  fmt::print("\nhost: {} CPUs, load {} before and {} after\n", std::thread::hardware_concurrency(),
             load_before, host_load());
  if (!arguments.json.empty()) {
    write_json(results, arguments);
  }
  return results.failures.empty() ? 0 : 1;
}

}  // namespace
}  // namespace vpatch::bench

int main(int argc, char** argv) {
  vpatch::bench::Arguments arguments;
  CLI::App app("Times livepatch transitions with and without vpatch's help.");
  app.add_option("--kernel", arguments.kernels, "6.1 or 6.12; both if left out")
      ->check(CLI::IsMember({"6.1", "6.12"}));
  app.add_option("--rounds", arguments.rounds,
                 "Of each scenario; every fourth of them where the stock kernel takes long")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--scenario", arguments.scenarios, "Only these, such as S3,S6")
      ->delimiter(',')
      ->check(CLI::IsMember({"S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9"}));
  app.add_option("--json", arguments.json, "Write all figures to this file too");
  CLI11_PARSE(app, argc, argv);
  try {
    return vpatch::bench::run(arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_transition: {}\n", error.what());
    return 1;
  }
}
