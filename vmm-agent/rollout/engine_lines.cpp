// SPDX-License-Identifier: Apache-2.0
// Who waits in line, what for, and who is let go.
#include <limits>

#include "vmm-agent/rollout/engine.h"

namespace vpatch::rollout {

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

}  // namespace vpatch::rollout
