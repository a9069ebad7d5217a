// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm-agent/rollout/alarms.h"
#include "vmm-agent/rollout/dispatcher.h"
#include "vmm-agent/rollout/domain_state.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/rollout/tally.h"

namespace vpatch::rollout {

/// Tells the answer to an action from late ones to those before it. Never 0.
using OperationId = std::uint64_t;

// What happens to a rollout.

/// An apply or a revert has ended.
struct Finished {
  enum class Found : std::uint8_t {
    nothing_special,
    in_force,  ///< an apply changed nothing: the livepatch was in force
    off,       ///< an apply changed nothing: the domain did not run
  };
  DomainId domain = 0;
  OperationId operation = 0;
  Outcome outcome = Outcome::done;  ///< the verb's exit code
  std::string text{};
  Found found = Found::nothing_special;
};

/// The answer to a look.
struct Looked {
  enum class Guest : std::uint8_t {
    in_force,     ///< the livepatch of the plan is, and no transition runs
    pending,      ///< a transition runs, or an operation of vpatch
    absent,       ///< it is not in force, and nothing runs that would change that
    off,          ///< the domain does not run
    unreachable,  ///< it cannot be told
  };
  DomainId domain = 0;
  OperationId operation = 0;
  Guest guest = Guest::unreachable;
  std::string text{};
};

/// The answer to a health check.
struct HealthVerdict {
  enum class Health : std::uint8_t { pass, fail, inconclusive };
  DomainId domain = 0;
  OperationId operation = 0;
  Health health = Health::inconclusive;
  std::string text{};
};

/// Whatever ran over it may run on, and its answers will not come.
struct ConnectionLost {
  ConnectionId connection = 0;
  std::string text{};
};
/// For the first time, or again.
struct ConnectionUp {
  ConnectionId connection = 0;
};

/// Of an operator.
struct Command {
  enum class Kind : std::uint8_t {
    pause,     ///< nothing new; what is in flight ends
    resume,    ///< the failures so far are accepted, inconclusive domains are checked again
    abort,     ///< for good: nothing new, no rollback either
    rollback,  ///< also of a rollout that has ended or was aborted; tries failed reverts again
  };
  Kind kind = Kind::pause;
  std::string text{};  ///< who and why
};

std::string_view to_string(Command::Kind kind);
std::optional<Command::Kind> parse_command_kind(std::string_view word);

/// It is next_wake_up(), or the rollout begins.
struct Tick {};

using Event =
    std::variant<Finished, Looked, HealthVerdict, ConnectionLost, ConnectionUp, Command, Tick>;

enum class ActionKind : std::uint8_t {
  look,          ///< what is in force in the guest now? Answer: Looked
  apply,         ///< answer: Finished
  check_health,  ///< the plan's checks, and that the patch is in force. Answer: HealthVerdict
  revert,        ///< take it out and forget its registration; done too where neither was there, or
                 ///< where the domain is off. Answer: Finished
  cancel,        ///< end the operation: drop it when it is not begun, else as Ctrl-C would. Its own
                 ///< answer is still awaited
};

std::string_view to_string(ActionKind kind);

struct Action {
  ActionKind kind = ActionKind::look;
  DomainId domain = 0;
  OperationId operation = 0;  ///< of cancel: which

  friend bool operator==(const Action&, const Action&) = default;
};

/// Which way a rollout goes.
enum class Course : std::uint8_t { forward, aborted, back };

/// Why it is paused, was aborted or is rolled back.
enum class Cause : std::uint8_t {
  none,
  command,          ///< an operator
  budget,           ///< more failures than the budget has
  canary,           ///< a canary failed
  canary_unproven,  ///< no domain of the canary could be patched: all are off or unmatched
  inconclusive,     ///< a health check
  no_progress,      ///< the deadline without one domain more that is done
};

std::string_view to_string(Course course);
std::string_view to_string(Cause cause);
// The meaning of such a word.
std::optional<Course> parse_course(std::string_view word);
std::optional<Cause> parse_cause(std::string_view word);

/// All that is journaled of the rollout itself.
struct RolloutRecord {
  Course course = Course::forward;
  bool paused = false;
  bool finished = false;  ///< nothing is left to do, unless it is rolled back
  Cause cause = Cause::none;
  std::optional<DomainId> domain{};  ///< of the cause
  std::string text{};                ///< of the cause
  std::uint32_t wave = 0;  ///< the one at work; 0 is the canary's; past the last: all done
  std::optional<Time> soak_until{};  ///< the wave is over, and the next begins then
  std::uint32_t accepted = 0;        ///< failures that resume has accepted

  friend bool operator==(const RolloutRecord&, const RolloutRecord&) = default;
};

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

  std::optional<Errand> errand_of(const Domain& domain) const;
  void line_up(DomainId id);
  void leave_line(Domain& domain);
  void rebuild_lines();
  void line_up_wave();

  void run_alarms();
  void alarm(DomainId id);
  void operation_overdue(DomainId id);
  void give_up_waiting(ConnectionId connection);
  void watch_progress();
  void advance();
  bool wave_is_over();
  bool soaks(const Domain& domain) const;
  void set_soak_alarm(DomainId id);
  void set_soak_alarms();
  void dispatch();
  Errand last_errand();
  bool window_open();
  void conclude();
  Step take_step();

  std::chrono::seconds soak_of(std::uint32_t wave) const;
  std::optional<Time> progress_deadline() const;
  bool may_go(Course course) const;
  std::uint64_t new_failures() const { return failures_ - rollout_.accepted; }

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
