// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm-agent/rollout/alarms.h"
#include "vmm-agent/rollout/dispatcher.h"
#include "vmm-agent/rollout/domain_state.h"
#include "vmm-agent/rollout/event.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/rollout/rollout_record.h"
#include "vmm-agent/rollout/tally.h"

namespace vpatch::rollout {

struct DomainChange {
  DomainId domain = 0;
  DomainRecord record;
};

/// What came of an event. All changes are journaled, in one transaction, before the first action is
/// carried out: what is restored then knows of all that may have been begun.
struct Step {
  std::vector<DomainChange> domains;
  std::optional<RolloutRecord> rollout;
  std::vector<Action> actions;
};

/// A domain of the fleet, in the planned order.
struct FleetDomain {
  ConnectionId connection = 0;
  std::uint32_t wave = 1;  ///< 0: canary; else Plan::waves[wave - 1]
  DomainRecord record;     ///< at first waiting, off, unmatched or already
};

struct Summary {
  RolloutRecord rollout;
  StateCounts domains;
  std::vector<StateCounts> waves;  ///< the canary first
  std::uint64_t failures = 0;      ///< since resume accepted the others
  std::uint64_t budget = 0;
  std::size_t at_work = 0;  ///< domains that hold a place under the limits
  std::optional<Time> next_wake_up;
};

/// Decides all that a rollout does. Deterministic; without threads, clock, I/O and randomness.
///
/// A domain is at work, and holds a place under the limits, from its apply to the end of its watch.
/// Where its connection is lost it becomes unknown and gives its place up. A look at the guest
/// settles it once the connection is back; after limits.per_domain without an answer it has failed
/// as unreachable. So has, at the same pace, what waits in the current wave on a lost connection
/// and could have been begun. An apply or revert is cancelled after limits.per_domain, and given up
/// after the same time again. One that was cut off is tried again only when a look found that it
/// left nothing behind, and three times at most.
///
/// A wave is over when each of its domains is in an end state; the next one begins after its soak,
/// which counts from then, and only where something was patched. The canary is watched again now
/// and then in its soak, and once more at its end. A resume sets the budget anew.
///
/// The window binds what is begun, not what a rollback takes out: that ends harm.
class Engine {
 public:
  /// A new rollout. It begins with the first event. No connection counts as up before it is said to
  /// be.
  Engine(const Plan& plan, std::vector<FleetDomain> fleet, Time now);
  /// One that another process has driven so far: the records are the journal's. What was in flight
  /// is looked at first.
  static Engine restore(const Plan& plan, std::vector<FleetDomain> fleet,
                        const RolloutRecord& rollout, Time now);

  /// Events that are out of date, or name what is not there, change nothing. `now` never goes back.
  Step handle(const Event& event, Time now);

  /// When a Tick is due at the latest.
  std::optional<Time> next_wake_up() const;
  const RolloutRecord& rollout() const { return rollout_; }
  Summary summary() const;

 private:
  /// Between two checks of a guest.
  static constexpr std::chrono::seconds kCheckGap{30};

  struct Domain {
    DomainRecord record;
    ConnectionId connection = 0;
    std::uint32_t wave = 0;
    OperationId operation = 0;  ///< whose answer is awaited; 0: none
    std::optional<Errand> in_line{};
    bool at_work = false;
    bool soak_check_due = false;  ///< one of the canary, in its soak
    bool cancelled = false;
    bool changed = false;  ///< in this step
  };

  void on(const Finished& event);
  void on(const Looked& event);
  void on(const HealthVerdict& event);
  void on(const ConnectionLost& event);
  void on(const ConnectionUp& event);
  void on(const Command& event);
  void on(const Tick& /*event*/) {}

  void apply_finished(DomainId id, const Finished& event);
  void revert_finished(DomainId id, const Finished& event);
  void found_unsettled(DomainId id, const Looked& event);
  void found_while_back(DomainId id);
  void found_in_force(DomainId id);
  void found_absent(DomainId id);

  // engine_commands.cpp
  void resume();
  void abort();
  void roll_back();
  void leave_waiting_alone();
  void revert_watched();
  void trigger(Cause cause, std::optional<DomainId> id, const std::string& text);
  void pause(Cause cause, std::optional<DomainId> id, const std::string& text);
  RolloutRecord& change_rollout();

  /// The domain whose answer this is, if it is awaited.
  Domain* awaited(DomainId id, OperationId operation);
  void set_state(DomainId id, DomainState state, std::string text = {});
  void mark_changed(DomainId id);
  void start(DomainId id, ActionKind kind, std::chrono::seconds limit);
  void start_apply(DomainId id);
  void start_revert(DomainId id);
  void start_watch(DomainId id);
  void start_check(DomainId id);
  void start_errand(DomainId id, Errand errand);
  /// Gives the place up.
  void stop(DomainId id);
  void end(DomainId id, DomainState state, std::string text = {});
  void fail(DomainId id, Outcome outcome, const std::string& text);
  void lose(DomainId id, std::string text);
  void look_later(DomainId id);

  // engine_lines.cpp
  std::optional<Errand> errand_of(const Domain& domain) const;
  void line_up(DomainId id);
  void leave_line(Domain& domain);
  void rebuild_lines();
  void line_up_wave();
  Errand last_errand();
  void dispatch();

  // engine_time.cpp
  void run_alarms();
  void alarm(DomainId id);
  void operation_overdue(DomainId id);
  void give_up_waiting(ConnectionId connection);
  std::optional<Time> progress_deadline() const;
  void watch_progress();
  bool soaks(const Domain& domain) const;
  void set_soak_alarm(DomainId id);
  void set_soak_alarms();
  std::chrono::seconds soak_of(std::uint32_t wave) const;
  void advance();
  bool wave_is_over();
  bool window_open();

  bool may_go(Course course) const;
  std::uint64_t new_failures() const { return failures_ - rollout_.accepted; }
  void conclude();
  Step take_step();

  Plan plan_;
  std::uint64_t budget_;
  std::uint32_t last_wave_;
  std::chrono::seconds domain_limit_;
  std::chrono::seconds check_limit_;  ///< of one health check
  std::vector<Domain> domains_;
  std::vector<DomainId> by_wave_;         ///< in the planned order within each wave
  std::vector<std::size_t> wave_begins_;  ///< in by_wave_, and its end
  RolloutRecord rollout_{};
  Tally tally_;
  Dispatcher dispatcher_;
  Alarms domain_alarms_;
  Alarms connection_alarms_;  ///< of lost connections on which somebody waits
  std::uint64_t failures_ = 0;
  std::uint32_t begun_ = 0;
  std::uint32_t reverts_in_line_ = 0;
  std::uint32_t soak_checks_due_ = 0;
  OperationId operations_ = 0;
  Time now_{};
  Time progress_since_{};
  std::optional<Time> window_opening_{};  ///< somebody waits for it
  bool rollout_changed_ = false;
  std::vector<DomainId> changed_;
  std::vector<Action> actions_;
};

}  // namespace vpatch::rollout
