// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/pause.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr int kAttempts = 3;
constexpr std::chrono::milliseconds kBetweenAttempts{50};
constexpr std::chrono::seconds kResumeTimeout{5};
constexpr std::chrono::milliseconds kEventsTimeout{200};

/// Whether there is something to pause.
Result<bool> runs(Domain& domain, const qmp::CallOptions& options) {
  auto state = domain.run_state(options);
  if (!state) {
    return std::unexpected(state.error());
  }
  if (*state != RunState::running && *state != RunState::paused && *state != RunState::held) {
    return fail(Outcome::unreachable,
                fmt::format("{}: cannot pause: it is {}", domain.name(), to_string(*state)));
  }
  return *state == RunState::running;
}

/// A guest that stands still is migrated at once, and might be started nowhere.
Result<void> not_migrating(Domain& domain, const qmp::CallOptions& options) {
  const auto migrating = domain.migrating(options);
  if (!migrating) {
    return std::unexpected(migrating.error());
  }
  return *migrating ? Result<void>(fail(Outcome::refused,
                                        domain.name() + ": cannot pause: it is being migrated",
                                        "Try again when the migration has ended."))
                    : Result<void>();
}

}  // namespace

Result<Pause> Pause::take(Domain& domain, Guardian& guardian, const qmp::CallOptions& options) {
  auto lock = PauseLock::take(domain.identity(), domain.name(), options);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  auto running = runs(domain, options);
  if (!running) {
    return std::unexpected(running.error());
  }
  return *running ? begin(domain, guardian, *std::move(lock), options) : Pause(domain);
}

Result<Pause> Pause::take(Domain& domain, const Target& target, std::chrono::milliseconds limit,
                          const qmp::CallOptions& options, const std::string& program) {
  auto lock = PauseLock::take(domain.identity(), domain.name(), options);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  auto running = runs(domain, options);
  if (!running) {
    return std::unexpected(running.error());
  }
  if (!*running) {
    return Pause(domain);
  }
  auto guardian = Guardian::start(target, limit, options, program);
  if (!guardian) {
    return std::unexpected(std::move(guardian.error()).in_context(domain.name()));
  }
  auto own = std::make_unique<Guardian>(*std::move(guardian));
  auto pause = begin(domain, *own, *std::move(lock), options);
  if (pause) {
    pause->own_guardian_ = std::move(own);
  }
  return pause;
}

Result<Pause> Pause::begin(Domain& domain, Guardian& guardian, PauseLock lock,
                           const qmp::CallOptions& options) {
  if (auto fit = not_migrating(domain, options); !fit) {
    return std::unexpected(std::move(fit.error()));
  }
  Pause pause(domain);
  pause.lock_.emplace(std::move(lock));
  domain.watch_stops(options);
  pause.armed_ = Clock::now();
  if (auto armed = guardian.arm(*pause.lock_, options); !armed) {
    return std::unexpected(std::move(armed.error()).in_context(domain.name()));
  }
  // Somebody else may have paused it while the guardian got ready.
  const auto still = runs(domain, options);
  if (!still || !*still) {
    guardian.disarm();
    return still ? Result<Pause>(Pause(domain)) : std::unexpected(still.error());
  }
  pause.guardian_ = &guardian;
  pause.owed_ = true;
  pause.asked_ = Clock::now();
  // Not interruptible: giving up midway would leave open whether the domain is paused.
  if (auto paused = domain.pause({.timeout = options.timeout, .stop = {}}); !paused) {
    if (pause.resume_domain()) {
      guardian.disarm_after_failure();
    }
    return std::unexpected(std::move(paused.error()));
  }
  guardian.paused();
  if (!pause.within_limit()) {
    static_cast<void>(pause.pay());
    return fail(Outcome::unreachable, fmt::format("{}: it took too long to pause", domain.name()));
  }
  return pause;
}

Pause::Pause(Pause&& other) noexcept
    : domain_(other.domain_),
      own_guardian_(std::move(other.own_guardian_)),
      guardian_(other.guardian_),
      lock_(std::move(other.lock_)),
      owed_(std::exchange(other.owed_, false)),
      armed_(other.armed_),
      asked_(other.asked_),
      lasted_(other.lasted_),
      by_events_(other.by_events_),
      ran_on_(other.ran_on_) {}

Pause::~Pause() {
  if (owed_ && !pay()) {
    guardian_->hand_over();
  }
}

bool Pause::within_limit() const {
  return !owed_ || Clock::now() < armed_ + guardian_->limit();
}

bool Pause::still_holds(const qmp::CallOptions& options) const {
  if (owed_) {
    return within_limit() && !domain_->resumed_by_others();
  }
  const auto running = runs(*domain_, options);
  return running && !*running;
}

Result<qmp::CallOptions> Pause::calls_within(std::chrono::milliseconds most,
                                             const qmp::CallOptions& options) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(most - held_for());
  if (left.count() <= 0) {
    return fail(Outcome::refused, "the pause took too long");
  }
  return qmp::CallOptions{.timeout = std::min(left, options.timeout), .stop = options.stop};
}

std::chrono::microseconds Pause::held_for() const {
  return owed_ ? std::chrono::ceil<std::chrono::microseconds>(Clock::now() - asked_) : lasted_;
}

Result<std::chrono::microseconds> Pause::resume() {
  if (owed_) {
    if (auto paid = pay(); !paid) {
      return std::unexpected(std::move(paid.error()));
    }
    // The events lie between the request and the answer. More than that is a clock that was set.
    const auto events = domain_->stopped_for({.timeout = kEventsTimeout, .stop = {}});
    if (events && *events <= lasted_) {
      by_events_ = *events;
    }
    ran_on_ = domain_->resumed_by_others();
  }
  return by_events_.value_or(lasted_);
}

/// Pays the debt, and tells the guardian.
Result<void> Pause::pay() {
  auto resumed = resume_domain();
  if (resumed) {
    lasted_ = std::chrono::ceil<std::chrono::microseconds>(Clock::now() - asked_);
    guardian_->disarm();
    lock_.reset();
  }
  return resumed;
}

/// Pays the debt as far as the domain is concerned; the guardian is to be told.
Result<void> Pause::resume_domain() {
  Error error;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt > 0) {
      std::this_thread::sleep_for(kBetweenAttempts);
    }
    auto resumed = domain_->resume({.timeout = kResumeTimeout, .stop = {}});
    if (resumed) {
      owed_ = false;
      return {};
    }
    error = std::move(resumed.error());
  }
  return fail(Outcome::failed_needs_look,
              fmt::format("{} is still paused: {}", domain_->name(), error.what),
              "vpatch keeps trying for a while; or resume it by hand (virsh resume, or the "
              "monitor's command cont).");
}

}  // namespace vpatch
