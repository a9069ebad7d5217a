// SPDX-License-Identifier: Apache-2.0
// A real rollout for the tests: its plan, the process that drives it, and what its guests say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/json/object.hpp>
#include <gtest/gtest.h>

#include "tests/vm/fleet_fixture.h"
#include "tests/vm/subprocess.h"

namespace vpatch::test {

using FleetGuests = std::vector<const FleetGuest*>;

/// A line that `rollout start` or `resume` prints with --json.
struct RolloutNews {
  std::string domain;  ///< empty: of the rollout itself
  std::string kind;
  std::string text;
};

/// A domain in `rollout status --json`.
struct RolloutDomainStatus {
  std::string state;
  std::string text;
  std::uint64_t wave = 0;
  bool in_force = false;  ///< or may be
};

/// The first part of a plan: the file of `patch` for the kernels of `guests`, and these guests
/// alone, all of them at one time. `files_for` leaves out the files of other kernels.
std::string plan_for(const FleetGuests& guests, const std::string& patch,
                     const std::vector<std::string>& files_for = {"6.1", "6.12"});

/// A rollout by the name of its plan. VPATCH_JOURNAL says where it is written down.
class Rollout {
 public:
  /// Writes FOLDER/NAME.yaml: its name, then `plan`.
  Rollout(const std::filesystem::path& folder, std::string name, const std::string& plan);

  const std::string& name() const { return name_; }

  /// Starts a process that drives it, by this verb of `vpatch rollout`.
  void drive(const std::string& verb = "start");
  /// Waits until that has ended, and returns what it printed.
  ProcessResult end();
  /// The same in one.
  ProcessResult drive_to_end(const std::string& verb = "start");
  bool is_driven() { return driver_ && driver_->running(); }
  void signal(int number) const { driver_->signal(number); }
  /// kill -9 of that process, or of all that it has started as well, but for guardians.
  void kill_driver();
  void kill_all();
  /// Runs a verb beside it, `start` for the plan and all others by name.
  ProcessResult tell(const std::string& verb, const std::vector<std::string>& flags = {}) const;

  /// What that process has printed so far.
  std::vector<RolloutNews> news() const;
  /// Waits for such news, of `domain` or else of anybody; false when the process ended without.
  bool comes(const std::string& kind, const std::string& domain = {});

  boost::json::object status() const;
  std::map<std::string, RolloutDomainStatus> domains() const;

 private:
  std::vector<std::string> argv(const std::string& verb,
                                const std::vector<std::string>& flags) const;

  std::string name_;
  std::string plan_;
  std::unique_ptr<Process> driver_{};
};

/// Whether the guest has this livepatch in force, by its own sysfs.
bool has_in_force(const FleetGuest& guest, const std::string& patch);
/// How often its kernel, in this boot and this test, has loaded this livepatch.
std::uint64_t loads_of(const FleetGuest& guest, const std::string& patch);
/// The applies of this livepatch in the guest that the journal knows.
struct Applies {
  std::uint64_t done = 0;
  std::uint64_t cut_off = 0;  ///< with another end, or none
};
Applies applies_of(const FleetGuest& guest, const std::string& patch);
/// The livepatches that `ensure` would bring into the guest.
std::vector<std::string> registered_for(const FleetGuest& guest);

/// Checks that no guest is missing in the status of a rollout that rests, that each state is an
/// end, has the words that it needs, and is the guest's own truth.
void expect_explained(const Rollout& rollout, const FleetGuests& guests, const std::string& patch);

/// Five guests for all tests, of 6.1 and 6.12 in turn. Each test begins with all of them up,
/// healthy and unpatched, and with a journal of its own.
class RolloutTest : public testing::Test {
 protected:
  RolloutTest();

  static const FleetGuest& guest(std::size_t index);
  static FleetGuests guests(std::size_t count);
  /// From here on nothing is written down yet.
  void use_new_journal();
  Rollout rollout(const std::string& name, const std::string& plan) const {
    return {folder_, name, plan};
  }

  const std::filesystem::path folder_ = testing::TempDir() + "vpatch-rollout-test";
};

}  // namespace vpatch::test
