// SPDX-License-Identifier: Apache-2.0
// What time brings: limits that pass, soaks, the next wave, the window.
#include <algorithm>

#include <fmt/format.h>

#include "vmm-agent/rollout/engine.h"

namespace vpatch::rollout {
namespace {

using std::chrono::seconds;

/// The canary is looked at so many times in its soak, but not more often than that.
constexpr int kSoakChecks = 4;

}  // namespace

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
  const bool has_wave = may_go(Course::forward) && rollout_.wave <= last_wave_;
  if (has_wave && tally_.wave(rollout_.wave).all_ended() && soak_checks_due_ == 0) {
    consider(rollout_.soak_until);
  }
  return next;
}

// Alarms.

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

// Soaks and waves.

/// Whether it is one of the canary, which is watched on until its soak is over.
bool Engine::soaks(const Domain& domain) const {
  return may_go(Course::forward) && rollout_.wave == 0 && domain.wave == 0 && rollout_.soak_until &&
         soak_of(0) > seconds{0} && domain.record.state == DomainState::done;
}

void Engine::set_soak_alarm(DomainId id) {
  const auto until = rollout_.soak_until;
  if (until && soaks(domains_[id]) && now_ < *until) {
    const auto gap = std::max(kCheckGap, soak_of(0) / kSoakChecks);
    domain_alarms_.set(id, std::min(now_ + gap, *until));
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

seconds Engine::soak_of(std::uint32_t wave) const {
  if (wave == 0) {
    return plan_.canary ? plan_.canary->soak : seconds{0};
  }
  return wave <= plan_.waves.size() ? plan_.waves[wave - 1].soak : seconds{0};
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

// The window.

bool Engine::window_open() {
  window_opening_.reset();
  if (!plan_.window || plan_.window->open(now_)) {
    return true;
  }
  window_opening_ = plan_.window->next_opening(now_);
  return false;
}

}  // namespace vpatch::rollout
