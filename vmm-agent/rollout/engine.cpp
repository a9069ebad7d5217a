// SPDX-License-Identifier: Apache-2.0
// How it begins, what it makes of the answers, and its steps. The rest is in engine_commands.cpp,
// engine_lines.cpp and engine_time.cpp.
#include "vmm-agent/rollout/engine.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace vpatch::rollout {
namespace {

using std::chrono::seconds;

/// A look, and what a check takes on top of the plan's timeouts.
constexpr seconds kAnswerLimit{60};
/// Between two looks at a guest that cannot be told: at first short, since what runs there mostly
/// ends in a moment, then twice as long each time.
constexpr seconds kShortestLookGap{2};
constexpr seconds kLookGap{30};
/// Of one apply or revert that is cut off each time. A driver that dies of it counts too.
constexpr std::uint8_t kAttempts = 3;

std::size_t connections_of(const std::vector<FleetDomain>& fleet) {
  std::size_t connections = 0;
  for (const FleetDomain& domain : fleet) {
    connections = std::max<std::size_t>(connections, std::size_t{domain.connection} + 1);
  }
  return connections;
}

std::uint32_t last_wave_of(const Plan& plan, const std::vector<FleetDomain>& fleet) {
  auto last = static_cast<std::uint32_t>(plan.waves.size());
  for (const FleetDomain& domain : fleet) {
    last = std::max(last, domain.wave);
  }
  return last;
}

seconds check_limit_of(const Plan& plan) {
  seconds limit = kAnswerLimit;
  for (const HealthCommand& check : plan.checks) {
    limit += check.timeout;
  }
  return limit;
}

bool is_in_flight(DomainState state) {
  return state == DomainState::applying || state == DomainState::watching ||
         state == DomainState::reverting || state == DomainState::unknown;
}

/// Whether a failed apply that ended so may have left the livepatch in the guest.
bool may_be_left(Outcome outcome) {
  switch (outcome) {
    case Outcome::usage:
    case Outcome::refused:
    case Outcome::stalled_reverted:
    case Outcome::failed_restored:
      return false;
    case Outcome::done:
    case Outcome::stalled_waiting:
    case Outcome::unreachable:
    case Outcome::failed_needs_look:
    case Outcome::unrecorded:
    case Outcome::internal:
      break;
  }
  return true;
}

bool is_success(Outcome outcome) {
  return outcome == Outcome::done || outcome == Outcome::unrecorded;
}

}  // namespace

Engine::Engine(const Plan& plan, std::vector<FleetDomain> fleet, Time now)
    : plan_(plan),
      budget_(plan.limits.budget.of(fleet.size())),
      last_wave_(last_wave_of(plan, fleet)),
      domain_limit_(std::max(plan.limits.per_domain, seconds{1})),
      check_limit_(check_limit_of(plan)),
      wave_begins_(std::size_t{last_wave_} + 2),
      tally_(std::size_t{last_wave_} + 1),
      dispatcher_(connections_of(fleet), plan.limits.parallel, plan.limits.parallel_per_connection),
      now_(now),
      progress_since_(now) {
  domains_.reserve(fleet.size());
  for (FleetDomain& domain : fleet) {
    tally_.add(domain.wave, domain.record.state);
    ++wave_begins_[std::size_t{domain.wave} + 1];
    failures_ += domain.record.failure ? 1 : 0;
    begun_ = std::max(begun_, domain.record.order);
    domains_.push_back(
        {.record = std::move(domain.record), .connection = domain.connection, .wave = domain.wave});
  }
  for (std::size_t wave = 1; wave < wave_begins_.size(); ++wave) {
    wave_begins_[wave] += wave_begins_[wave - 1];
  }
  by_wave_.resize(domains_.size());
  auto next = wave_begins_;
  for (DomainId id = 0; id < domains_.size(); ++id) {
    by_wave_[next[domains_[id].wave]++] = id;
  }
  rebuild_lines();
}

Engine Engine::restore(const Plan& plan, std::vector<FleetDomain> fleet,
                       const RolloutRecord& rollout, Time now) {
  Engine engine(plan, std::move(fleet), now);
  engine.rollout_ = rollout;
  for (DomainId id = 0; id < engine.domains_.size(); ++id) {
    DomainRecord& record = engine.domains_[id].record;
    if (is_in_flight(record.state)) {
      record.before = record.state == DomainState::unknown ? record.before : record.state;
      engine.set_state(id, DomainState::unknown, "vpatch ended meanwhile");
    }
  }
  engine.rebuild_lines();
  engine.set_soak_alarms();
  return engine;
}

Step Engine::handle(const Event& event, Time now) {
  const bool was_idle = dispatcher_.at_work() == 0;
  now_ = std::max(now_, now);
  std::visit([this](const auto& each) { on(each); }, event);
  run_alarms();
  watch_progress();
  advance();
  dispatch();
  if (was_idle) {
    progress_since_ = now_;
  }
  conclude();
  return take_step();
}

// Answers.

Engine::Domain* Engine::awaited(DomainId id, OperationId operation) {
  if (id >= domains_.size() || operation == 0 || domains_[id].operation != operation) {
    return nullptr;
  }
  domains_[id].operation = 0;
  domain_alarms_.clear(id);
  return &domains_[id];
}

void Engine::on(const Finished& event) {
  if (event.domain >= domains_.size()) {
    return;
  }
  const DomainState state = domains_[event.domain].record.state;
  if (state != DomainState::applying && state != DomainState::reverting) {
    return;
  }
  Domain* domain = awaited(event.domain, event.operation);
  if (domain == nullptr) {
    return;
  }
  domain->record.outcome = event.outcome;
  if (event.outcome == Outcome::unreachable) {
    lose(event.domain, event.text);
  } else if (state == DomainState::applying) {
    apply_finished(event.domain, event);
  } else {
    revert_finished(event.domain, event);
  }
}

void Engine::apply_finished(DomainId id, const Finished& event) {
  DomainRecord& record = domains_[id].record;
  if (event.found == Finished::Found::off) {
    record.touched = plan_.persist;  // `ensure` brings it: a rollback has to end that
    end(id, DomainState::off, event.text);
  } else if (!is_success(event.outcome)) {
    record.touched = may_be_left(event.outcome);
    fail(id, event.outcome, event.text);
  } else if (event.found == Finished::Found::in_force && record.attempts == 1) {
    // A later attempt may find what an earlier one, cut off, has done: that is ours.
    record.touched = false;
    progress_since_ = now_;
    end(id, DomainState::already, event.text);
  } else if (may_go(Course::back)) {
    start_revert(id);
  } else {
    start_watch(id);
    record.text = event.text;
  }
}

void Engine::revert_finished(DomainId id, const Finished& event) {
  DomainRecord& record = domains_[id].record;
  if (is_success(event.outcome)) {
    record.touched = false;
    end(id, DomainState::reverted, event.text);
  } else {
    record.before = DomainState::reverting;
    fail(id, event.outcome, event.text);
  }
}

void Engine::on(const Looked& event) {
  if (event.domain >= domains_.size() ||
      domains_[event.domain].record.state != DomainState::unknown ||
      awaited(event.domain, event.operation) == nullptr) {
    return;
  }
  switch (event.guest) {
    case Looked::Guest::pending:
    case Looked::Guest::unreachable:
      found_unsettled(event.domain, event);
      return;
    case Looked::Guest::in_force:
    case Looked::Guest::absent:
    case Looked::Guest::off:
      break;
  }
  if (rollout_.course == Course::back) {
    found_while_back(event.domain);
  } else if (event.guest == Looked::Guest::in_force) {
    found_in_force(event.domain);
  } else if (event.guest == Looked::Guest::absent) {
    found_absent(event.domain);
  } else {
    // It ran when it was begun: that it has crashed of the patch cannot be ruled out.
    fail(event.domain, Outcome::failed_needs_look, "the domain went off while it was at work");
  }
}

void Engine::found_unsettled(DomainId id, const Looked& event) {
  if (now_ < domains_[id].record.since + domain_limit_) {
    stop(id);
    look_later(id);
  } else {
    fail(id,
         event.guest == Looked::Guest::pending ? Outcome::stalled_waiting : Outcome::unreachable,
         event.text);
  }
}

/// Whether the patch is in force makes no difference: its registration may have to be forgotten.
void Engine::found_while_back(DomainId id) {
  const DomainRecord& record = domains_[id].record;
  if (record.before == DomainState::reverting && record.attempts >= kAttempts) {
    fail(id, Outcome::unreachable, fmt::format("cut off in {} reverts", kAttempts));
  } else if (rollout_.paused) {
    stop(id);  // resume has it looked at again
  } else {
    start_revert(id);
  }
}

void Engine::found_in_force(DomainId id) {
  if (domains_[id].record.before == DomainState::reverting) {
    fail(id, Outcome::failed_needs_look, "still in force: the rollback was aborted");
  } else {
    start_watch(id);
  }
}

void Engine::found_absent(DomainId id) {
  DomainRecord& record = domains_[id].record;
  if (record.before == DomainState::watching) {
    fail(id, Outcome::failed_restored,
         "the patch is no longer in force: the guest rebooted or crashed while it was watched");
    return;
  }
  record.touched = false;
  if (record.before == DomainState::reverting) {
    end(id, DomainState::reverted);
  } else if (rollout_.course == Course::aborted) {
    end(id, DomainState::left_alone, "its apply was cut off and left nothing behind");
  } else if (record.attempts >= kAttempts) {
    fail(id, Outcome::unreachable, fmt::format("cut off in {} applies", kAttempts));
  } else {
    end(id, DomainState::waiting, "its apply was cut off and left nothing behind");
  }
}

void Engine::on(const HealthVerdict& event) {
  if (event.domain >= domains_.size() ||
      domains_[event.domain].record.state != DomainState::watching) {
    return;
  }
  const Domain* domain = awaited(event.domain, event.operation);
  if (domain == nullptr) {
    return;
  }
  const Time healthy_at = domain->record.since + plan_.healthy_for;
  if (event.health == HealthVerdict::Health::fail) {
    fail(event.domain, Outcome::failed_needs_look, event.text);
  } else if (event.health == HealthVerdict::Health::inconclusive) {
    end(event.domain, DomainState::inconclusive, event.text);
    if (rollout_.course == Course::forward && !rollout_.paused) {
      pause(Cause::inconclusive, event.domain, event.text);
    }
  } else if (now_ < healthy_at) {
    domain_alarms_.set(event.domain, std::min(now_ + kCheckGap, healthy_at));
  } else {
    progress_since_ = now_;
    end(event.domain, DomainState::done, event.text);
    set_soak_alarm(event.domain);
  }
}

// Connections.

void Engine::on(const ConnectionLost& event) {
  if (event.connection >= dispatcher_.connections() || !dispatcher_.is_up(event.connection)) {
    return;
  }
  dispatcher_.set_up(event.connection, false);
  connection_alarms_.set(event.connection, now_ + domain_limit_);
  const auto at_work = dispatcher_.at_work(event.connection);
  for (const DomainId id : std::vector<DomainId>(at_work.begin(), at_work.end())) {
    lose(id, event.text);
  }
}

void Engine::on(const ConnectionUp& event) {
  if (event.connection < dispatcher_.connections()) {
    connection_alarms_.clear(event.connection);
    dispatcher_.set_up(event.connection, true);
  }
}

/// The guest's state is no longer known: a look is to settle it.
void Engine::lose(DomainId id, std::string text) {
  Domain& domain = domains_[id];
  stop(id);
  if (domain.record.state != DomainState::unknown) {
    domain.record.before = domain.record.state;
    set_state(id, DomainState::unknown, std::move(text));
  }
  look_later(id);
}

void Engine::look_later(DomainId id) {
  const Domain& domain = domains_[id];
  if (dispatcher_.is_up(domain.connection)) {
    const auto gap =
        std::clamp<Time::duration>(now_ - domain.record.since, kShortestLookGap, kLookGap);
    domain_alarms_.set(id, std::min(now_ + gap, domain.record.since + domain_limit_));
  } else {
    line_up(id);
  }
}

// What is done to a domain.

void Engine::mark_changed(DomainId id) {
  if (!domains_[id].changed) {
    domains_[id].changed = true;
    changed_.push_back(id);
  }
}

void Engine::set_state(DomainId id, DomainState state, std::string text) {
  Domain& domain = domains_[id];
  soak_checks_due_ -= std::exchange(domain.soak_check_due, false) ? 1U : 0U;
  tally_.move(domain.wave, domain.record.state, state);
  domain.record.state = state;
  domain.record.since = now_;
  domain.record.text = std::move(text);
  mark_changed(id);
}

void Engine::start(DomainId id, ActionKind kind, seconds limit) {
  Domain& domain = domains_[id];
  if (!domain.at_work) {
    domain.at_work = true;
    dispatcher_.start(domain.connection, id);
  }
  domain.operation = ++operations_;
  domain.cancelled = false;
  domain_alarms_.set(id, now_ + limit);
  actions_.push_back({kind, id, domain.operation});
}

void Engine::start_apply(DomainId id) {
  DomainRecord& record = domains_[id].record;
  ++record.attempts;
  record.order = ++begun_;
  record.touched = true;
  set_state(id, DomainState::applying);
  start(id, ActionKind::apply, domain_limit_);
}

void Engine::start_revert(DomainId id) {
  DomainRecord& record = domains_[id].record;
  const bool again =
      record.state == DomainState::unknown && record.before == DomainState::reverting;
  record.attempts = static_cast<std::uint8_t>(again ? record.attempts + 1 : 1);
  set_state(id, DomainState::reverting);
  start(id, ActionKind::revert, domain_limit_);
}

void Engine::start_watch(DomainId id) {
  domains_[id].record.attempts = 0;
  set_state(id, DomainState::watching);
  start_check(id);
}

void Engine::start_check(DomainId id) {
  start(id, ActionKind::check_health, check_limit_);
}

void Engine::start_errand(DomainId id, Errand errand) {
  if (errand == Errand::begin) {
    start_apply(id);
  } else if (errand == Errand::revert) {
    start_revert(id);
  } else if (domains_[id].record.state != DomainState::unknown) {
    start_watch(id);  // inconclusive, or in its soak
  } else {
    start(id, ActionKind::look, kAnswerLimit);
  }
}

void Engine::stop(DomainId id) {
  Domain& domain = domains_[id];
  domain.operation = 0;
  domain_alarms_.clear(id);
  if (domain.at_work) {
    domain.at_work = false;
    dispatcher_.stop(domain.connection, id);
  }
}

void Engine::end(DomainId id, DomainState state, std::string text) {
  set_state(id, state, std::move(text));
  stop(id);
  line_up(id);
}

void Engine::fail(DomainId id, Outcome outcome, const std::string& text) {
  Domain& domain = domains_[id];
  domain.record.outcome = outcome;
  if (!domain.record.failure) {
    domain.record.failure = true;
    ++failures_;
  }
  end(id, DomainState::failed, text);
  if (domain.wave == 0) {
    trigger(Cause::canary, id, text);
  } else if (new_failures() > budget_) {
    trigger(Cause::budget, id, text);
  }
}

// Steps.

bool Engine::may_go(Course course) const {
  return rollout_.course == course && !rollout_.paused;
}

void Engine::conclude() {
  const bool idle = dispatcher_.at_work() == 0 && tally_.all().of(DomainState::unknown) == 0;
  const bool finished = rollout_.course == Course::forward ? rollout_.wave > last_wave_
                                                           : idle && reverts_in_line_ == 0;
  if (finished != rollout_.finished) {
    change_rollout().finished = finished;
  }
}

Step Engine::take_step() {
  Step step;
  step.domains.reserve(changed_.size());
  for (const DomainId id : changed_) {
    domains_[id].changed = false;
    step.domains.push_back({id, domains_[id].record});
  }
  changed_.clear();
  if (std::exchange(rollout_changed_, false)) {
    step.rollout = rollout_;
  }
  step.actions = std::exchange(actions_, {});
  return step;
}

Summary Engine::summary() const {
  return {.rollout = rollout_,
          .domains = tally_.all(),
          .waves = tally_.waves(),
          .failures = new_failures(),
          .budget = budget_,
          .at_work = dispatcher_.at_work(),
          .next_wake_up = next_wake_up()};
}

}  // namespace vpatch::rollout
