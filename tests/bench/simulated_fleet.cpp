// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/simulated_fleet.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <random>
#include <tuple>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace vpatch::test {
namespace {

using namespace rollout;
using std::chrono::seconds;
using Guest = Looked::Guest;
using Health = HealthVerdict::Health;
using Found = Finished::Found;

constexpr std::size_t kMostViolations = 5;
constexpr std::uint64_t kMostCrashes = 25;
constexpr std::uint64_t kMostResumes = 40;
/// Looks and checks answer before the engine gives them up.
constexpr double kLongestLook = 50;
/// Just before that time.
constexpr seconds kGivenUp{59};
constexpr double kLongestOperation = 400;

struct SimulatedGuest {
  bool runs = true;
  bool in_force = false;
  bool ours = false;  ///< by this rollout
  bool rebooted = false;
  std::uint64_t busy = 0;  ///< the operation at work in it
  bool hangs = false;      ///< that operation
};

/// What the journal has, and the invariants that can be told from it and from the true guests.
class Judge {
 public:
  Judge(const FleetScenario& scenario, std::vector<FleetDomain> fleet,
        const std::vector<SimulatedGuest>& guests)
      : plan_(&scenario.plan),
        guests_(&guests),
        journal_(std::move(fleet)),
        looks_(journal_.size()),
        placed_(journal_.size()),
        members_(scenario.connections),
        at_work_on_(scenario.connections),
        lost_(scenario.connections),
        unsettled_(scenario.plan.waves.size() + 1),
        soaks_from_(scenario.plan.waves.size() + 1),
        was_done_(scenario.domains),
        budget_(scenario.plan.limits.budget.of(journal_.size())) {
    for (DomainId id = 0; id < journal_.size(); ++id) {
      const FleetDomain& domain = journal_[id];
      unsettled_[domain.wave] += is_end(domain.record.state) ? 0 : 1;
      members_[domain.connection].push_back(id);
    }
  }

  void take(const Step& step, const Event& event, Time now) {
    const bool was_paused = rollout_.paused;
    const auto* command = std::get_if<Command>(&event);
    if (was_paused && command != nullptr && command->kind == Command::Kind::resume) {
      failures_ = 0;
      canary_failed_ = false;
      inconclusive_ = false;
      most_failures_.reset();
    }
    if (step.rollout) {
      rollout_ = *step.rollout;
    }
    for (const DomainChange& change : step.domains) {
      record(change, now);
    }
    for (const Action& action : step.actions) {
      judge(action, now);
    }
  }

  /// The answer has been given, or will never be.
  void look_ended(DomainId id) {
    looks_[id] = false;
    place(id);
  }
  void connection(ConnectionId connection, bool lost) {
    lost_[connection] = lost;
    if (lost) {
      for (const DomainId id : members_[connection]) {
        if (looks_[id]) {
          look_ended(id);
        }
      }
    }
  }
  void restarted() {
    for (DomainId id = 0; id < journal_.size(); ++id) {
      looks_[id] = false;
      placed_[id] = false;
    }
    at_work_ = 0;
    std::ranges::fill(at_work_on_, 0);
  }

  void judge_end(const Summary& summary) {
    StateCounts counts;
    for (DomainId id = 0; id < journal_.size(); ++id) {
      counts.add(journal_[id].record.state);
      judge_end(id);
    }
    must(counts == summary.domains, "the summary does not count what the journal has");
    must(summary.rollout == rollout_, "the summary's rollout is not the journal's");
  }

  void must(bool holds, const std::string& what) {
    if (!holds && violations_.size() < kMostViolations) {
      violations_.push_back(what);
    }
  }

  const RolloutRecord& rollout() const { return rollout_; }
  const std::vector<FleetDomain>& journal() const { return journal_; }
  const std::vector<DomainId>& members(ConnectionId connection) const {
    return members_[connection];
  }
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  void record(const DomainChange& change, Time now) {
    FleetDomain& domain = journal_[change.domain];
    const DomainRecord& old = domain.record;
    const DomainRecord& fresh = change.record;
    unsettled_[domain.wave] += is_end(fresh.state) ? 0 : 1;
    unsettled_[domain.wave] -= is_end(old.state) ? 0 : 1;
    if (fresh.state == DomainState::done && old.state != DomainState::done) {
      if (!was_done_[change.domain]) {
        was_done_[change.domain] = true;
        soaks_from_[domain.wave] = now;
      }
      canary_seen_ = domain.wave == 0 ? std::optional(now) : canary_seen_;
    } else if (fresh.state == DomainState::applying) {
      was_done_[change.domain] = false;
    }
    if (fresh.state == DomainState::failed || fresh.state == DomainState::inconclusive) {
      must(fresh.state == DomainState::inconclusive || fresh.outcome.has_value(),
           "a failure without an outcome");
      must(!fresh.text.empty(), fmt::format("domain {} failed without a reason", change.domain));
    }
    inconclusive_ = inconclusive_ || fresh.state == DomainState::inconclusive;
    // What a rollback cannot take out does not count.
    const bool failed = fresh.failure && !old.failure && fresh.before != DomainState::reverting;
    domain.record = fresh;
    place(change.domain);
    if (failed && rollout_.course != Course::back) {
      count_failure(domain.wave);
    }
  }

  void count_failure(std::uint32_t wave) {
    ++failures_;
    canary_failed_ = canary_failed_ || wave == 0;
    if (failures_ <= budget_) {
      return;
    }
    if (!most_failures_) {
      const auto in_flight = std::ranges::count_if(journal_, [](const FleetDomain& domain) {
        return domain.record.state == DomainState::applying ||
               domain.record.state == DomainState::watching ||
               domain.record.state == DomainState::unknown;
      });
      most_failures_ = failures_ + static_cast<std::uint64_t>(in_flight);
    }
    must(failures_ <= *most_failures_,
         fmt::format("{} failures: more than the budget and what was in flight", failures_));
  }

  /// Counts who holds a place.
  void place(DomainId id) {
    const FleetDomain& domain = journal_[id];
    const DomainState state = domain.record.state;
    const bool placed = state == DomainState::applying || state == DomainState::watching ||
                        state == DomainState::reverting ||
                        (state == DomainState::unknown && looks_[id]);
    if (placed != placed_[id]) {
      placed_[id] = placed;
      at_work_ += placed ? 1 : -1;
      at_work_on_[domain.connection] += placed ? 1 : -1;
    }
  }

  void judge(const Action& action, Time now) {
    const FleetDomain& domain = journal_[action.domain];
    if (action.kind == ActionKind::look) {
      looks_[action.domain] = true;
      place(action.domain);
    }
    const auto holds = [&](bool value, std::string_view what) {
      if (!value) {
        must(false, fmt::format("{} of domain {} in wave {}, {}: {}", to_string(action.kind),
                                action.domain, domain.wave, to_string(domain.record.state), what));
      }
    };
    holds(!lost_[domain.connection], "its connection is lost");
    holds(at_work_ <= plan_->limits.parallel, "more at work than the limit");
    holds(at_work_on_[domain.connection] <= plan_->limits.parallel_per_connection,
          "more at work on one connection than the limit");
    if (action.kind == ActionKind::revert) {
      holds(domain.record.state == DomainState::reverting, "not journaled before");
      holds(rollout_.course == Course::back && !rollout_.paused, "no rollback is under way");
    } else if (action.kind == ActionKind::apply) {
      const SimulatedGuest& guest = (*guests_)[action.domain];
      holds(domain.record.state == DomainState::applying, "not journaled before");
      holds(rollout_.course == Course::forward && !rollout_.paused, "the rollout is held");
      holds(failures_ <= budget_, "the budget is spent");
      holds(!canary_failed_, "the canary has failed");
      holds(!inconclusive_, "a health check was inconclusive");
      holds(!(guest.in_force && guest.ours), "the guest has it already");
      holds(guest.busy == 0, "an operation is at work in the guest");
      holds(in_window(now), "out of the window");
      if (domain.wave == 1) {
        holds(canary_was_seen(), "the canary was not looked at after its soak");
      }
      for (std::uint32_t wave = 0; wave < domain.wave; ++wave) {
        holds(unsettled_[wave] == 0, "an earlier wave is not over");
        holds(!soaks_from_[wave] || now >= *soaks_from_[wave] + soak(wave),
              "an earlier wave soaks");
      }
    }
  }

  /// Whether the canary that is still well was looked at when its soak was over.
  bool canary_was_seen() const {
    const bool well = std::ranges::any_of(journal_, [](const FleetDomain& domain) {
      return domain.wave == 0 && domain.record.state == DomainState::done;
    });
    const std::optional<Time>& soaks_from = soaks_from_[0];
    return !well || !soaks_from || canary_seen_ >= *soaks_from + soak(0);
  }

  seconds soak(std::uint32_t wave) const {
    if (wave == 0) {
      return plan_->canary ? plan_->canary->soak : seconds{0};
    }
    return plan_->waves[wave - 1].soak;
  }

  /// By other arithmetic than the window's own: UTC, all days.
  bool in_window(Time now) const {
    if (!plan_->window) {
      return true;
    }
    constexpr std::int64_t kDay = 24L * 60 * 60;
    const MaintenanceWindow& window = *plan_->window;
    const std::int64_t second = now.time_since_epoch().count() % kDay;
    const std::int64_t from = seconds(window.from).count();
    const std::int64_t length = (seconds(window.to).count() - from + kDay - 1) % kDay + 1;
    return (second - from + kDay) % kDay < length - seconds(window.cutoff).count();
  }

  void judge_end(DomainId id) {
    const DomainRecord& record = journal_[id].record;
    const SimulatedGuest& guest = (*guests_)[id];
    const bool reasoned = record.state == DomainState::inconclusive && !record.text.empty() &&
                          rollout_.course == Course::aborted;
    const auto holds = [&](bool value, std::string_view what) {
      if (!value) {
        must(false,
             fmt::format("at the end domain {} is {}: {}", id, to_string(record.state), what));
      }
    };
    holds(is_end(record.state) || reasoned, "no end state");
    holds(record.state != DomainState::done || guest.in_force || guest.rebooted,
          "the guest does not have it");
    holds(record.state != DomainState::already || (guest.in_force && !guest.ours) || guest.rebooted,
          "the guest does not have it, or has it of us");
    holds(record.touched || !(guest.in_force && guest.ours), "the guest has it");
  }

  const Plan* plan_;
  const std::vector<SimulatedGuest>* guests_;
  std::vector<FleetDomain> journal_;
  RolloutRecord rollout_;
  std::vector<bool> looks_;                     ///< whose answer is awaited
  std::vector<bool> placed_;                    ///< who holds a place
  std::vector<std::vector<DomainId>> members_;  ///< of each connection
  std::int64_t at_work_ = 0;
  std::vector<std::int64_t> at_work_on_;
  std::vector<bool> lost_;
  std::vector<std::int64_t> unsettled_;
  std::vector<std::optional<Time>> soaks_from_;  ///< the last one of the wave was done
  std::vector<bool> was_done_;                   ///< since its last apply
  std::optional<Time> canary_seen_{};            ///< one of the canary passed its last check
  std::uint64_t budget_;
  std::uint64_t failures_ = 0;  ///< since the last resume
  std::optional<std::uint64_t> most_failures_;
  bool canary_failed_ = false;  ///< the same
  bool inconclusive_ = false;   ///< the same
  std::vector<std::string> violations_;
};

class Fleet {
 public:
  Fleet(const FleetScenario& scenario, std::uint64_t seed)
      : scenario_(&scenario),
        random_(seed),
        guests_(scenario.domains),
        generations_(scenario.connections),
        lost_(scenario.connections),
        judge_(scenario, make_domains(), guests_),
        engine_(scenario.plan, judge_.journal(), now_) {}

  FleetReport run() {
    const Time begin = now_;
    const std::uint64_t most_events = 20'000 + std::uint64_t{scenario_->domains} * 200;
    connect();
    while (!judge_.rollout().finished && report_.events < most_events) {
      if (!next()) {
        judge_.must(false, "nothing is left to happen, and the rollout has not ended");
        break;
      }
    }
    judge_.must(judge_.rollout().finished, "the rollout does not end");
    report_.summary = engine_.summary();
    judge_.judge_end(report_.summary);
    report_.violations = judge_.violations();
    report_.lasted = now_ - begin;
    return report_;
  }

 private:
  using Happening = std::function<void()>;
  struct Due {
    Time at;
    std::uint64_t number;
    Happening happens;
    bool operator>(const Due& other) const {
      return std::tie(at, number) > std::tie(other.at, other.number);
    }
  };

  bool chance(double probability) {
    return probability > 0 && std::uniform_real_distribution<>(0, 1)(random_) < probability;
  }
  std::size_t pick(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random_);
  }
  seconds latency(double median, double longest) {
    const double value = std::lognormal_distribution<>(std::log(median), 1.0)(random_);
    return seconds(static_cast<std::int64_t>(std::ceil(std::min(value, longest))));
  }

  std::vector<FleetDomain> make_domains() {
    std::vector<FleetDomain> domains(scenario_->domains);
    const auto waves = static_cast<std::uint32_t>(scenario_->plan.waves.size());
    for (DomainId id = 0; id < domains.size(); ++id) {
      FleetDomain& domain = domains[id];
      domain.connection = static_cast<ConnectionId>(pick(scenario_->connections));
      domain.wave = id < scenario_->canary ? 0
                                           : 1 + (id - scenario_->canary) * waves /
                                                     (scenario_->domains - scenario_->canary);
      if (chance(scenario_->off)) {
        guests_[id].runs = false;
        domain.record.state = DomainState::off;
      } else if (chance(scenario_->unmatched)) {
        domain.record.state = DomainState::unmatched;
      } else if (chance(scenario_->in_force)) {
        // Some are not known beforehand.
        guests_[id].in_force = true;
        domain.record.state = chance(0.5) ? DomainState::already : DomainState::waiting;
      }
    }
    return domains;
  }

  void after(seconds delay, Happening happens) {
    due_.push_back({now_ + delay, ++numbers_, std::move(happens)});
    std::ranges::push_heap(due_, std::greater<>{});
  }

  /// The next thing that happens, or the engine's own time.
  bool next() {
    const auto wake_up = engine_.next_wake_up();
    if (wake_up && (due_.empty() || *wake_up < due_.front().at)) {
      judge_.must(*wake_up > now_ || last_wake_up_ != now_, "it wakes up without an end");
      now_ = std::max(now_, *wake_up);
      last_wake_up_ = now_;
      handle(Tick{});
      return true;
    }
    if (due_.empty()) {
      return false;
    }
    std::ranges::pop_heap(due_, std::greater<>{});
    const Due due = std::move(due_.back());
    due_.pop_back();
    now_ = std::max(now_, due.at);  // a restart takes its time
    due.happens();
    return true;
  }

  /// One step of the driver: handle, journal, carry out. It may crash between any two of these.
  void handle(const Event& event) {
    ++report_.events;
    const Step step = engine_.handle(event, now_);
    const bool crashes = report_.crashes < kMostCrashes && chance(scenario_->crashes);
    if (crashes && chance(0.3)) {
      restart();
      return;
    }
    const bool was_paused = judge_.rollout().paused;
    judge_.take(step, event, now_);
    const std::size_t done = crashes ? pick(step.actions.size() + 1) : step.actions.size();
    for (std::size_t action = 0; action < done; ++action) {
      carry_out(step.actions[action]);
    }
    if (crashes) {
      restart();
      return;
    }
    if (judge_.rollout().paused && !was_paused) {
      decide_later();
    }
    disturb();
  }

  void restart() {
    ++report_.crashes;
    ++driver_;
    judge_.restarted();
    for (DomainId id = 0; id < guests_.size(); ++id) {
      end_hanging(id);
    }
    now_ += seconds(pick(120));
    engine_ = Engine::restore(scenario_->plan, judge_.journal(), judge_.rollout(), now_);
    if (judge_.rollout().paused) {
      decide_later();
    }
    connect();
  }

  void connect() {
    const std::uint64_t driver = driver_;
    handle(Tick{});
    for (ConnectionId connection = 0; connection < lost_.size() && driver == driver_;
         ++connection) {
      if (!lost_[connection]) {
        handle(ConnectionUp{connection});
      }
    }
  }

  /// The host sees its driver go, and ends what runs for it.
  void end_hanging(DomainId id) {
    if (guests_[id].hangs) {
      guests_[id].hangs = false;
      guests_[id].busy = 0;
    }
  }

  void disturb() {
    if (chance(scenario_->connection_lost)) {
      const auto connection = static_cast<ConnectionId>(pick(lost_.size()));
      after(seconds(pick(10)), [this, connection] { lose(connection); });
    }
    if (chance(scenario_->commands)) {
      after(seconds(pick(100)), [this] { handle(command(Command::Kind::pause)); });
    }
  }

  Command command(Command::Kind otherwise) {
    if (chance(scenario_->abort_share)) {
      return {Command::Kind::abort, "an operator"};
    }
    if (chance(scenario_->rollback_share)) {
      return {Command::Kind::rollback, "an operator"};
    }
    return {otherwise, "an operator"};
  }

  /// A paused rollout is somebody's to go on with.
  void decide_later() {
    after(seconds(60 + pick(3600)), [this, driver = driver_] {
      if (driver != driver_ || !judge_.rollout().paused) {
        return;
      }
      ++report_.resumes;
      const Course course = judge_.rollout().course;
      handle(report_.resumes < kMostResumes || course != Course::forward
                 ? command(Command::Kind::resume)
                 : Command{Command::Kind::abort, "an operator has had enough"});
      if (driver == driver_ && judge_.rollout().paused) {
        decide_later();  // it was paused again at once
      }
    });
  }

  void lose(ConnectionId connection) {
    if (lost_[connection]) {
      return;
    }
    ++report_.connections_lost;
    lost_[connection] = true;
    ++generations_[connection];
    for (const DomainId id : judge_.members(connection)) {
      end_hanging(id);
    }
    judge_.connection(connection, true);
    if (!chance(scenario_->stays_lost)) {
      after(latency(300, 5000), [this, connection] {
        lost_[connection] = false;
        judge_.connection(connection, false);
        handle(ConnectionUp{connection});
      });
    }
    handle(ConnectionLost{connection, "no answer"});
  }

  /// Answers only to who has asked, over the connection that it was asked over.
  void answer(DomainId id, const Event& event, std::uint64_t driver, std::uint64_t generation) {
    const ConnectionId connection = judge_.journal()[id].connection;
    if (driver == driver_ && generation == generations_[connection]) {
      handle(event);
    }
  }

  void carry_out(const Action& action) {
    const DomainId id = action.domain;
    const std::uint64_t generation = generations_[judge_.journal()[id].connection];
    const std::uint64_t driver = driver_;
    switch (action.kind) {
      case ActionKind::look:
        ++report_.looks;
        if (chance(scenario_->silent)) {
          after(kGivenUp, [=, this] {
            if (driver == driver_ && generation == generations_[judge_.journal()[id].connection]) {
              judge_.look_ended(id);
            }
          });
          return;
        }
        after(latency(1, kLongestLook), [=, this] {
          if (driver == driver_ && generation == generations_[judge_.journal()[id].connection]) {
            judge_.look_ended(id);
          }
          answer(id, Looked{id, action.operation, look(id), "as it is"}, driver, generation);
        });
        return;
      case ActionKind::check_health:
        if (chance(scenario_->silent)) {
          return;
        }
        after(latency(1, kLongestLook), [=, this] {
          answer(id, HealthVerdict{id, action.operation, health(id), "as it is"}, driver,
                 generation);
        });
        return;
      case ActionKind::apply:
        ++report_.applies;
        operate(action, driver, generation);
        return;
      case ActionKind::revert:
        ++report_.reverts;
        operate(action, driver, generation);
        return;
      case ActionKind::cancel:
        cancel(action, driver, generation);
        return;
    }
  }

  void operate(const Action& action, std::uint64_t driver, std::uint64_t generation) {
    const DomainId id = action.domain;
    SimulatedGuest& guest = guests_[id];
    if (guest.busy != 0) {
      after(seconds(1), [=, this] {
        answer(id, Finished{id, action.operation, Outcome::refused, "its lock is held"}, driver,
               generation);
      });
      return;
    }
    guest.busy = ++numbers_;
    guest.hangs = action.kind == ActionKind::apply && chance(scenario_->apply_hangs);
    if (guest.hangs) {
      return;
    }
    after(latency(4, kLongestOperation), [=, this, busy = guest.busy] {
      if (guests_[id].busy != busy) {
        return;
      }
      guests_[id].busy = 0;
      answer(id, action.kind == ActionKind::apply ? apply(action) : revert(action), driver,
             generation);
    });
  }

  Finished apply(const Action& action) {
    SimulatedGuest& guest = guests_[action.domain];
    Finished finished{action.domain, action.operation, Outcome::done, "applied"};
    if (chance(scenario_->found_off)) {
      guest.runs = false;
      guest.in_force = false;
      finished.outcome = Outcome::refused;
      finished.found = Found::off;
    } else if (guest.in_force) {
      finished.found = Found::in_force;
    } else if (chance(scenario_->apply_fails)) {
      constexpr std::array kFailures = {Outcome::refused,         Outcome::stalled_reverted,
                                        Outcome::stalled_waiting, Outcome::unreachable,
                                        Outcome::failed_restored, Outcome::failed_needs_look,
                                        Outcome::unrecorded,      Outcome::internal};
      finished.outcome = kFailures.at(pick(kFailures.size()));
      finished.text = "as fleets do";
      const bool may_be = finished.outcome == Outcome::stalled_waiting ||
                          finished.outcome == Outcome::unreachable ||
                          finished.outcome == Outcome::failed_needs_look ||
                          finished.outcome == Outcome::internal;
      guest.in_force = finished.outcome == Outcome::unrecorded || (may_be && chance(0.5));
      guest.ours = guest.in_force;
    } else {
      guest.in_force = true;
      guest.ours = true;
    }
    return finished;
  }

  Finished revert(const Action& action) {
    SimulatedGuest& guest = guests_[action.domain];
    Finished finished{action.domain, action.operation, Outcome::done, "reverted"};
    if (chance(scenario_->revert_fails)) {
      constexpr std::array kFailures = {Outcome::refused, Outcome::stalled_reverted,
                                        Outcome::unreachable, Outcome::failed_needs_look};
      finished.outcome = kFailures.at(pick(kFailures.size()));
      finished.text = "as fleets do";
    } else {
      guest.in_force = false;
      guest.ours = false;
    }
    return finished;
  }

  void cancel(const Action& action, std::uint64_t driver, std::uint64_t generation) {
    const DomainId id = action.domain;
    if (!guests_[id].hangs || chance(0.5)) {
      return;  // as good as ended, or deaf to it
    }
    after(latency(2, kLongestLook), [=, this] {
      if (!guests_[id].hangs) {
        return;
      }
      end_hanging(id);
      answer(id, Finished{id, action.operation, Outcome::failed_restored, "cancelled"}, driver,
             generation);
    });
  }

  void reboot(DomainId id) {
    SimulatedGuest& guest = guests_[id];
    if (guest.busy == 0 && chance(scenario_->reboots)) {
      guest.rebooted = true;
      guest.in_force = false;
      guest.ours = false;
    }
  }

  Guest look(DomainId id) {
    reboot(id);
    const SimulatedGuest& guest = guests_[id];
    if (!guest.runs) {
      return Guest::off;
    }
    if (guest.busy != 0) {
      return Guest::pending;
    }
    return guest.in_force ? Guest::in_force : Guest::absent;
  }

  Health health(DomainId id) {
    reboot(id);
    if (!guests_[id].in_force || chance(scenario_->unhealthy)) {
      return Health::fail;
    }
    return chance(scenario_->inconclusive) ? Health::inconclusive : Health::pass;
  }

  const FleetScenario* scenario_;
  std::mt19937_64 random_;
  Time now_{std::chrono::sys_days(std::chrono::year(2026) / 3 / 1)};
  std::optional<Time> last_wake_up_;
  std::uint64_t numbers_ = 0;
  std::uint64_t driver_ = 0;  ///< how many have crashed
  std::vector<SimulatedGuest> guests_;
  std::vector<std::uint64_t> generations_;  ///< of each connection
  std::vector<bool> lost_;
  std::vector<Due> due_;  ///< a heap, the earliest first
  Judge judge_;
  Engine engine_;
  FleetReport report_;
};

}  // namespace

FleetReport run_fleet(const FleetScenario& scenario, std::uint64_t seed) {
  return Fleet(scenario, seed).run();
}

}  // namespace vpatch::test
