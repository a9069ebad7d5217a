// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tests/vm/fleet_fixture.h"

namespace vpatch::bench {

inline constexpr const char* kFleetPatch = "vpatch_demo_v1";

/// A part of the work, summed over all guests, in seconds on the wall.
struct Part {
  std::string name;
  double seconds = 0;
};

/// CPU time in seconds.
struct CpuTimes {
  double tools = 0;  ///< of the processes that patch
  double libvirtd = 0;
  double guests = 0;   ///< of their QEMUs
  double machine = 0;  ///< of all processes, others' too
};

/// What one way to patch the whole fleet took. Times are in seconds.
struct WayResult {
  std::string name;
  double total = 0;
  double begin = 0;                   ///< of that: until work on the first guest began
  double idle = 0;                    ///< of that: no guest was worked on
  std::vector<double> transitions{};  ///< of each guest, by its own log
  double paused = 0;
  CpuTimes cpu{};
  double load = 0;  ///< the machine's load average at the end (1 minute)
  std::vector<Part> parts{};
};

struct RolloutCare {
  std::string name;
  unsigned healthy_for = 0;  ///< seconds
  unsigned soak = 0;         ///< of the canary, seconds
};

/// The ways to patch a fleet. All throw where a guest is not patched, or not as it was after.
class FleetRace {
 public:
  /// `folder` takes the plans, journals and reports.
  FleetRace(const test::TestFleet& fleet, unsigned parallel, std::string folder)
      : fleet_(fleet), parallel_(parallel), folder_(std::move(folder)) {}

  /// tests/bench/virsh-loop.
  WayResult virsh_loop(unsigned at_once) const;
  /// `vpatch rollout start`, with a canary of one guest and three waves. Its page is then in
  /// `folder`/NAME.html.
  WayResult rollout(const RolloutCare& care) const;

  void take_back_by_rmmod() const;
  /// In seconds.
  double roll_back(const std::string& name) const;

 private:
  std::vector<std::string> vpatch(const std::string& name, std::vector<std::string> words) const;
  std::string write_plan(const RolloutCare& care) const;
  void add_report(const std::string& name, double started, WayResult& result) const;
  void measure_transitions(WayResult& result) const;
  CpuTimes cpu() const;

  const test::TestFleet& fleet_;
  unsigned parallel_;
  std::string folder_;
};

}  // namespace vpatch::bench
