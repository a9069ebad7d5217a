// SPDX-License-Identifier: Apache-2.0
// What a rollout costs the host that drives it, by the size of the fleet: the engine's decisions
// over a simulated fleet with losses, failures, reboots and crashes of the driver. No virtual
// machine, no connection, no disk. The figures hold the simulation and its checks as well.
#include <cstdint>
#include <ctime>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>

#include "tests/bench/simulated_fleet.h"

namespace {

using vpatch::rollout::Amount;
using vpatch::test::FleetReport;
using vpatch::test::FleetScenario;

constexpr double kMostSeconds = 60;
constexpr double kMostMegabytes = 1000;
/// Of the cost of a domain in the largest fleet to that in the smallest.
constexpr double kMostGrowth = 2;
/// The smaller fleets are run until so many domains have been counted: one run is too short to
/// time.
constexpr std::uint32_t kLeastDomains = 100'000;

FleetScenario fleet_of(std::uint32_t domains) {
  FleetScenario scenario;
  scenario.domains = domains;
  scenario.connections = domains / 100;
  scenario.canary = 10;
  scenario.plan.canary = vpatch::rollout::Canary{};
  scenario.plan.waves = {{.amount = {1, Amount::Unit::percent}}, {}, {}, {}};
  scenario.plan.limits = {.parallel = 2 * scenario.connections,
                          .parallel_per_connection = 2,
                          .budget = {100, Amount::Unit::percent}};
  scenario.off = 0.01;
  scenario.in_force = 0.02;
  scenario.apply_fails = 0.01;
  scenario.unhealthy = 0.001;
  scenario.reboots = 0.001;
  scenario.silent = 0.0001;
  scenario.connection_lost = 0.0002;
  scenario.crashes = 1.0 / domains;
  scenario.abort_share = 0;
  scenario.rollback_share = 0;
  return scenario;
}

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// The highest so far: sizes are measured in rising order.
double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

struct Cost {
  double seconds = 0;     ///< of one run
  double per_domain = 0;  ///< microseconds
  bool clean = true;
};

Cost measure(std::uint32_t domains) {
  const FleetScenario scenario = fleet_of(domains);
  const std::uint32_t runs = kLeastDomains / domains;
  std::uint64_t events = 0;
  std::uint64_t crashes = 0;
  Cost cost;
  const double begin = cpu_seconds();
  for (std::uint32_t run = 0; run < runs; ++run) {
    const FleetReport report = run_fleet(scenario, run + 1);
    events += report.events;
    crashes += report.crashes;
    for (const std::string& violation : report.violations) {
      fmt::print("{} domains, seed {}: {}\n", domains, run + 1, violation);
      cost.clean = false;
    }
  }
  const double all = double{kLeastDomains} / 1e6;
  cost.seconds = (cpu_seconds() - begin) / runs;
  cost.per_domain = cost.seconds * runs / all;
  fmt::print(
      "{:>6} domains {:>4} connections   events {:>7}   crashes {:>2}   CPU {:6.2f} s   peak RSS "
      "{:4.0f} MB   {:6.2f} us a domain\n",
      domains, scenario.connections, events / runs, crashes / runs, cost.seconds, peak_megabytes(),
      cost.per_domain);
  return cost;
}

bool verdict(bool passed, const std::string& text) {
  fmt::print("{}  {}\n", passed ? "pass" : "FAIL", text);
  return passed;
}

}  // namespace

int main() {
  const Cost small = measure(1'000);
  const Cost middle = measure(10'000);
  const Cost large = measure(100'000);
  const double growth = large.per_domain / small.per_domain;
  bool passed = verdict(small.clean && middle.clean && large.clean, "no invariant is violated");
  passed &= verdict(
      large.seconds <= kMostSeconds,
      fmt::format("100,000 domains: {:.2f} s of a core, bar {:g}", large.seconds, kMostSeconds));
  passed &= verdict(peak_megabytes() <= kMostMegabytes,
                    fmt::format("100,000 domains: {:.0f} MB at most, bar {:g}", peak_megabytes(),
                                kMostMegabytes));
  passed &= verdict(growth <= kMostGrowth,
                    fmt::format("a domain of 100,000 costs {:.2f} times one of 1,000, bar {:g}",
                                growth, kMostGrowth));
  return passed ? 0 : 1;
}
