// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "introspect/kernel/kernel_log.h"
#include "tests/bench/transition_scenarios.h"
#include "tests/vm/test_vm.h"

namespace vpatch::bench {

/// Who ends the transition: the kernel at its own pace, vpatch only watching, or the two together.
enum class Side : std::uint8_t { stock, assisted };

/// A running guest whose transitions are timed by its own log. Everything throws
/// std::runtime_error when it fails; restore() then makes the guest fit for the next round.
class TransitionGuest {
 public:
  explicit TransitionGuest(const std::string& kernel);

  /// Starts and ends the scenario's load.
  void start_load(const Scenario& scenario);
  void end_load(const Scenario& scenario);

  Transition patch(const Scenario& scenario, Side side);
  /// After patch().
  Transition unpatch(const Scenario& scenario, Side side);
  /// One round of a scenario that nobody can end: has it reverted, and left waiting and let go, and
  /// checks that the blocker is named with his stack each time.
  void stall(const Scenario& scenario);

  /// After a failure: lets all go, and takes all livepatches back.
  void restore(const Scenario& scenario);

  /// Lines of its kernel log so far that tell of trouble.
  const std::vector<std::string>& trouble() const { return trouble_; }
  /// Looks at the newest part of the log for it.
  void read_log();

 private:
  Transition change(const std::string& verb, const std::string& what, const Scenario& scenario,
                    Side side, Direction direction);
  void give_way(const std::string& verb, const std::string& what, const Scenario& scenario);

  test::TestVm vm_;
  std::string load_group_;  ///< process group of the load; empty when there is none
  std::uint64_t next_record_ = 0;
  std::vector<introspect::LogRecord> records_;  ///< those that the last read_log() has found
  std::vector<std::string> trouble_;
};

}  // namespace vpatch::bench
