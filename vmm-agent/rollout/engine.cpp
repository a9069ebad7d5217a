// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/engine.h"

#include <algorithm>
#include <array>
#include <limits>
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
/// Between two checks of a guest.
constexpr seconds kCheckGap{30};
/// The canary is looked at so many times in its soak, but not more often than that.
constexpr int kSoakChecks = 4;
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

bool revert_failed(const DomainRecord& record) {
  return record.state == DomainState::failed && record.before == DomainState::reverting;
}

constexpr std::array<std::string_view, 4> kCommandWords = {"pause", "resume", "abort", "rollback"};
constexpr std::array<std::string_view, 3> kCourseWords = {"forward", "aborted", "back"};
constexpr std::array<std::string_view, 7> kCauseWords = {
    "none", "command", "budget", "canary", "canary-unproven", "inconclusive", "no-progress"};

template <class Enum, std::size_t kCount>
std::optional<Enum> parse(const std::array<std::string_view, kCount>& words,
                          std::string_view word) {
  const auto found = std::ranges::find(words, word);
  return found == words.end() ? std::nullopt
                              : std::optional(static_cast<Enum>(found - words.begin()));
}

}  // namespace

std::string_view to_string(ActionKind kind) {
  constexpr std::array<std::string_view, 5> kWords = {"look", "apply", "check-health", "revert",
                                                      "cancel"};
  return kWords.at(static_cast<std::size_t>(kind));
}

std::string_view to_string(Command::Kind kind) {
  return kCommandWords.at(static_cast<std::size_t>(kind));
}

std::optional<Command::Kind> parse_command_kind(std::string_view word) {
  return parse<Command::Kind>(kCommandWords, word);
}

std::string_view to_string(Course course) {
  return kCourseWords.at(static_cast<std::size_t>(course));
}

std::optional<Course> parse_course(std::string_view word) {
  return parse<Course>(kCourseWords, word);
}

std::string_view to_string(Cause cause) {
  return kCauseWords.at(static_cast<std::size_t>(cause));
}

std::optional<Cause> parse_cause(std::string_view word) {
  return parse<Cause>(kCauseWords, word);
}

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

// Commands, and what failures do.

void Engine::on(const Command& event) {
  switch (event.kind) {
    case Command::Kind::pause:
      if (!rollout_.paused && !rollout_.finished) {
        pause(Cause::command, std::nullopt, event.text);
      }
      return;
    case Command::Kind::resume:
      resume();
      return;
    case Command::Kind::abort:
      if (rollout_.finished || rollout_.course == Course::aborted) {
        return;
      }
      break;
    case Command::Kind::rollback:
      break;
  }
  RolloutRecord& rollout = change_rollout();
  rollout.cause = Cause::command;
  rollout.domain.reset();
  rollout.text = event.text;
  if (event.kind == Command::Kind::abort) {
    abort();
  } else {
    roll_back();
  }
}

RolloutRecord& Engine::change_rollout() {
  rollout_changed_ = true;
  return rollout_;
}

void Engine::pause(Cause cause, std::optional<DomainId> id, const std::string& text) {
  RolloutRecord& rollout = change_rollout();
  rollout.paused = true;
  rollout.cause = cause;
  rollout.domain = id;
  rollout.text = text;
}

void Engine::resume() {
  if (!rollout_.paused) {
    return;
  }
  RolloutRecord& rollout = change_rollout();
  rollout.paused = false;
  if (rollout.course == Course::forward) {
    rollout.cause = Cause::none;
    rollout.domain.reset();
    rollout.text.clear();
    rollout.accepted = static_cast<std::uint32_t>(failures_);
  }
  progress_since_ = now_;
  revert_watched();
  rebuild_lines();
  set_soak_alarms();
}

void Engine::abort() {
  RolloutRecord& rollout = change_rollout();
  rollout.course = Course::aborted;
  rollout.paused = false;
  leave_waiting_alone();
  rebuild_lines();
}

void Engine::roll_back() {
  RolloutRecord& rollout = change_rollout();
  rollout.course = Course::back;
  rollout.paused = false;
  rollout.finished = false;
  leave_waiting_alone();
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (revert_failed(domains_[id].record)) {
      domains_[id].record.before = DomainState::failed;  // it is tried again
      mark_changed(id);
    }
  }
  revert_watched();
  rebuild_lines();
}

void Engine::leave_waiting_alone() {
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (domains_[id].record.state == DomainState::waiting) {
      set_state(id, DomainState::left_alone,
                rollout_.course == Course::back ? "rolled back before its turn came"
                                                : "aborted before its turn came");
    }
  }
}

/// What a rollback takes back anyway is not watched to its end.
void Engine::revert_watched() {
  if (rollout_.course != Course::back) {
    return;
  }
  for (DomainId id = 0; id < domains_.size(); ++id) {
    if (domains_[id].record.state == DomainState::watching) {
      start_revert(id);
    }
  }
}

void Engine::trigger(Cause cause, std::optional<DomainId> id, const std::string& text) {
  if (rollout_.course != Course::forward) {
    return;
  }
  pause(cause, id, text);
  if (plan_.on_failure == OnFailure::abort) {
    abort();
  } else if (plan_.on_failure == OnFailure::rollback) {
    roll_back();
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

// Lines.

std::optional<Errand> Engine::errand_of(const Domain& domain) const {
  const DomainRecord& record = domain.record;
  if (domain.at_work) {
    return std::nullopt;
  }
  if (record.state == DomainState::unknown) {
    return Errand::look;
  }
  if (domain.soak_check_due && soaks(domain)) {
    return Errand::look;
  }
  if (rollout_.course == Course::back) {
    return record.touched && !revert_failed(record) ? std::optional(Errand::revert) : std::nullopt;
  }
  if (rollout_.course == Course::forward && record.state == DomainState::inconclusive &&
      !rollout_.paused) {
    return Errand::look;
  }
  if (rollout_.course == Course::forward && record.state == DomainState::waiting &&
      domain.wave == rollout_.wave) {
    return Errand::begin;
  }
  return std::nullopt;
}

void Engine::line_up(DomainId id) {
  Domain& domain = domains_[id];
  const auto errand = errand_of(domain);
  if (!errand || domain.in_line) {
    return;
  }
  domain.in_line = errand;
  std::uint32_t rank = id;
  if (*errand == Errand::revert) {
    ++reverts_in_line_;
    rank = std::numeric_limits<std::uint32_t>::max() - domain.record.order;  // newest first
  }
  dispatcher_.push(domain.connection, *errand, rank, id);
  if (!dispatcher_.is_up(domain.connection) && !connection_alarms_.is_set(domain.connection)) {
    connection_alarms_.set(domain.connection, now_ + domain_limit_);
  }
}

void Engine::leave_line(Domain& domain) {
  reverts_in_line_ -= domain.in_line == Errand::revert ? 1U : 0U;
  domain.in_line.reset();
}

void Engine::rebuild_lines() {
  dispatcher_.clear();
  connection_alarms_.clear();
  for (DomainId id = 0; id < domains_.size(); ++id) {
    leave_line(domains_[id]);
    line_up(id);
  }
}

void Engine::line_up_wave() {
  if (rollout_.wave <= last_wave_) {
    for (std::size_t at = wave_begins_[rollout_.wave]; at < wave_begins_[rollout_.wave + 1]; ++at) {
      line_up(by_wave_[at]);
    }
  }
}

// Time.

void Engine::run_alarms() {
  while (const auto id = domain_alarms_.take_due(now_)) {
    alarm(*id);
  }
  while (const auto connection = connection_alarms_.take_due(now_)) {
    give_up_waiting(*connection);
  }
}

void Engine::alarm(DomainId id) {
  Domain& domain = domains_[id];
  switch (domain.record.state) {
    case DomainState::applying:
    case DomainState::reverting:
      operation_overdue(id);
      return;
    case DomainState::watching:
      if (domain.operation == 0) {
        start_check(id);
      } else {
        on(HealthVerdict{id, domain.operation, HealthVerdict::Health::inconclusive,
                         "the health check gave no answer"});
      }
      return;
    case DomainState::unknown:
      if (domain.at_work) {
        on(Looked{id, domain.operation, Looked::Guest::unreachable, "no answer"});
      } else {
        line_up(id);
      }
      return;
    case DomainState::done:
      if (!soaks(domain)) {
        return;
      }
      soak_checks_due_ += domain.soak_check_due ? 0U : 1U;
      domain.soak_check_due = true;
      line_up(id);
      return;
    default:
      return;
  }
}

/// Whether it is one of the canary, which is watched on until its soak is over.
bool Engine::soaks(const Domain& domain) const {
  return may_go(Course::forward) && rollout_.wave == 0 && domain.wave == 0 && rollout_.soak_until &&
         soak_of(0) > seconds{0} && domain.record.state == DomainState::done;
}

void Engine::set_soak_alarm(DomainId id) {
  if (soaks(domains_[id]) && now_ < *rollout_.soak_until) {
    const auto gap = std::max(kCheckGap, soak_of(0) / kSoakChecks);
    domain_alarms_.set(id, std::min(now_ + gap, *rollout_.soak_until));
  }
}

void Engine::set_soak_alarms() {
  for (std::size_t at = wave_begins_[0]; at < wave_begins_[1]; ++at) {
    const DomainId id = by_wave_[at];
    set_soak_alarm(id);
    if (soaks(domains_[id]) && !domain_alarms_.is_set(id)) {
      domain_alarms_.set(id, now_);  // the soak has ended while nobody watched
    }
  }
}

void Engine::operation_overdue(DomainId id) {
  Domain& domain = domains_[id];
  if (!domain.cancelled) {
    domain.cancelled = true;
    domain_alarms_.set(id, now_ + domain_limit_);
    actions_.push_back({ActionKind::cancel, id, domain.operation});
    return;
  }
  if (domain.record.state == DomainState::reverting) {
    domain.record.before = DomainState::reverting;
  }
  fail(id, Outcome::failed_needs_look,
       fmt::format("no end in {} s, nor when it was cancelled", domain_limit_.count()));
}

/// Fails who waits on a connection that has been lost for too long. One at a time: the first that
/// is too many for the budget keeps the rest from it.
void Engine::give_up_waiting(ConnectionId connection) {
  const auto waiting = dispatcher_.drain(connection);
  for (const DomainId id : waiting) {
    leave_line(domains_[id]);
  }
  for (const DomainId id : waiting) {
    Domain& domain = domains_[id];
    const auto errand = errand_of(domain);
    if (!domain.in_line && errand && *errand <= last_errand()) {
      if (*errand == Errand::revert) {
        domain.record.before = DomainState::reverting;
      }
      fail(id, Outcome::unreachable, "its connection is lost");
    } else {
      line_up(id);
    }
  }
}

std::optional<Time> Engine::progress_deadline() const {
  if (!may_go(Course::forward) || dispatcher_.at_work() == 0) {
    return std::nullopt;
  }
  return progress_since_ + plan_.healthy_for + plan_.limits.progress;
}

void Engine::watch_progress() {
  const auto deadline = progress_deadline();
  if (deadline && now_ >= *deadline) {
    trigger(Cause::no_progress, std::nullopt,
            fmt::format("no domain more is done for {} s", (now_ - progress_since_).count()));
  }
}

seconds Engine::soak_of(std::uint32_t wave) const {
  if (wave == 0) {
    return plan_.canary ? plan_.canary->soak : seconds{0};
  }
  return wave <= plan_.waves.size() ? plan_.waves[wave - 1].soak : seconds{0};
}

bool Engine::may_go(Course course) const {
  return rollout_.course == course && !rollout_.paused;
}

void Engine::advance() {
  while (may_go(Course::forward) && rollout_.wave <= last_wave_ && wave_is_over()) {
    RolloutRecord& rollout = change_rollout();
    ++rollout.wave;
    rollout.soak_until.reset();
    line_up_wave();
  }
}

/// And its soak as well.
bool Engine::wave_is_over() {
  const StateCounts& counts = tally_.wave(rollout_.wave);
  if (!counts.all_ended()) {
    return false;
  }
  if (!rollout_.soak_until && rollout_.wave < last_wave_) {
    const bool patched = counts.of(DomainState::done) != 0;
    change_rollout().soak_until = now_ + (patched ? soak_of(rollout_.wave) : seconds{0});
    if (rollout_.wave == 0 && plan_.canary && !patched && counts.of(DomainState::already) == 0 &&
        counts.of(DomainState::failed) == 0) {
      pause(Cause::canary_unproven, std::nullopt, "no domain of the canary could be patched");
      return false;
    }
    set_soak_alarms();
  }
  const bool seen = rollout_.wave != 0 || soak_checks_due_ == 0;
  return !rollout_.soak_until || (now_ >= *rollout_.soak_until && seen);
}

bool Engine::window_open() {
  window_opening_.reset();
  if (!plan_.window || plan_.window->open(now_)) {
    return true;
  }
  window_opening_ = plan_.window->next_opening(now_);
  return false;
}

/// The least urgent errand that may be started now.
Errand Engine::last_errand() {
  window_opening_.reset();
  if (rollout_.paused) {
    return Errand::look;
  }
  const bool begins = may_go(Course::forward) && rollout_.wave <= last_wave_ &&
                      tally_.wave(rollout_.wave).of(DomainState::waiting) != 0 && window_open();
  return begins ? Errand::begin : Errand::revert;
}

void Engine::dispatch() {
  const Errand last = last_errand();
  while (const auto id = dispatcher_.pop(last)) {
    Domain& domain = domains_[*id];
    leave_line(domain);
    // An inconclusive one has nothing to go for once the rollout is paused again.
    if (const auto errand = errand_of(domain)) {
      start_errand(*id, *errand);
    }
  }
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

std::optional<Time> Engine::next_wake_up() const {
  std::optional<Time> next;
  const auto consider = [&next](std::optional<Time> time) {
    if (time && (!next || *time < *next)) {
      next = time;
    }
  };
  consider(domain_alarms_.next());
  consider(connection_alarms_.next());
  consider(progress_deadline());
  consider(window_opening_);
  if (may_go(Course::forward)) {
    if (tally_.wave(rollout_.wave).all_ended() && soak_checks_due_ == 0) {
      consider(rollout_.soak_until);
    }
  }
  return next;
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
