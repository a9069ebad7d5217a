// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/guardian.h"
#include "vmm-agent/domain/pause_lock.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// A domain whose vCPUs do not run. If this paused it, that is a debt, which resume() pays; the
/// destructor is the safety net, and the guardian the one below. A domain that was paused already
/// is left so. One at a time on a host (PauseLock), and none while the domain is being migrated: a
/// guest that stands still is moved at once, and might arrive so. Not thread-safe. Domain and
/// Guardian must outlive it.
class Pause {
 public:
  /// Arms the guardian, then pauses. After an error the domain runs, or the guardian sees to it;
  /// with Outcome::refused nobody was asked to pause it.
  static Result<Pause> take(Domain& domain, Guardian& guardian, const qmp::CallOptions& options);

  /// The same with a guardian of its own, started only if there is something to pause.
  static Result<Pause> take(Domain& domain, const Target& target, std::chrono::milliseconds limit,
                            const qmp::CallOptions& options,
                            const std::string& program = Guardian::kThisProgram);

  Pause(Pause&& other) noexcept;
  Pause& operator=(Pause&&) = delete;
  ~Pause();

  /// False when somebody else had paused the domain: nothing here keeps it paused, nor resumes it.
  bool ours() const { return guardian_ != nullptr; }

  /// False once the guardian may have resumed the domain (a suspended process may wake up that
  /// late): ask before each write to the guest.
  bool within_limit() const;

  /// Whether the domain has stood still from take() until now, as far as its events have come: see
  /// ran_on(). For somebody else's pause, that it is still paused.
  bool still_holds(const qmp::CallOptions& options) const;

  /// Options for a call in the pause, with no more time than is left until it has lasted `most`.
  /// Outcome::refused when it has.
  Result<qmp::CallOptions> calls_within(std::chrono::milliseconds most,
                                        const qmp::CallOptions& options) const;

  /// How long the pause costs up to now, or has cost once resumed, by this process's clock: from
  /// before the request to pause to after the answer to the last one, so never less than what the
  /// guest missed. Zero for a pause that is not ours.
  std::chrono::microseconds held_for() const;

  /// Lets the vCPUs run, and tells how long they did not: from QEMU's STOP to its RESUME event, or
  /// held_for() when these do not come in time. Tries more than once, and a stop token does not
  /// interrupt it. Zero for a pause that is not ours. Outcome::failed_needs_look when the domain
  /// cannot be resumed.
  Result<std::chrono::microseconds> resume();
  /// Whether what resume() told is from the events.
  bool from_events() const { return by_events_.has_value(); }
  /// After resume(): somebody else had resumed the domain before, by its events. What was read and
  /// written in the pause may be of a guest that ran.
  bool ran_on() const { return ran_on_; }

 private:
  using Clock = std::chrono::steady_clock;

  explicit Pause(Domain& domain) : domain_(&domain) {}
  static Result<Pause> begin(Domain& domain, Guardian& guardian, PauseLock lock,
                             const qmp::CallOptions& options);
  Result<void> resume_domain();
  Result<void> pay();

  Domain* domain_;
  std::unique_ptr<Guardian> own_guardian_;
  Guardian* guardian_ = nullptr;   ///< none: somebody else's pause
  std::optional<PauseLock> lock_;  ///< as long as the debt
  bool owed_ = false;
  Clock::time_point armed_;
  Clock::time_point asked_;
  std::chrono::microseconds lasted_{};
  std::optional<std::chrono::microseconds> by_events_;
  bool ran_on_ = false;
};

}  // namespace vpatch
