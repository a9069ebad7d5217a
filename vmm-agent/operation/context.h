// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/assist/assistance.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest.h"
#include "vmm-agent/operation/introspection.h"
#include "vmm-agent/operation/preflight.h"

namespace vpatch {

/// Time as the operations see it, so that tests need none.
class Clock {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;

  virtual TimePoint now() = 0;
  /// Waits for `duration`, or until `stop` is triggered.
  virtual void wait(std::chrono::milliseconds duration, const std::stop_token& stop) = 0;
};

/// The real clock.
class SteadyClock final : public Clock {
 public:
  TimePoint now() override { return std::chrono::steady_clock::now(); }
  void wait(std::chrono::milliseconds duration, const std::stop_token& stop) override;
};

/// Where an operation tells how it goes.
class Reporter {
 public:
  Reporter() = default;
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;
  virtual ~Reporter() = default;

  /// A step is done.
  virtual void step(std::string_view text) = 0;
  /// What goes on right now; each call takes the place of the one before.
  virtual void progress(std::string_view text) = 0;
  /// Something the user should know although it stops nothing.
  virtual void warning(std::string_view text) = 0;
  /// Something for the record of the operation alone, to be there before what follows is begun.
  /// False when there is a record, and it does not hold this.
  virtual bool record(std::string_view kind, const boost::json::object& detail);
};

inline bool Reporter::record(std::string_view /*kind*/, const boost::json::object& /*detail*/) {
  return true;
}

/// What every operation works with. `stop` is triggered by Ctrl-C: work in progress ends early,
/// while the calls that put the guest in order do not listen to it.
struct Context {
  std::string domain;
  Guest& guest;
  Reporter& reporter;
  Clock& clock;
  std::stop_token stop;
  std::chrono::milliseconds call_timeout{20'000};
  /// The guest's memory; null where it cannot be read: the operation then does without.
  Introspection* introspection = nullptr;
  /// What helps transitions along; null where there is no guest memory.
  Assistance* assistance = nullptr;

  qmp::CallOptions interruptible() const { return {call_timeout, stop}; }
  qmp::CallOptions steady() const { return {call_timeout, {}}; }
};

inline constexpr std::string_view kUnseen = "unseen";  ///< a finding's id

/// How an operation ended, for the terminal, for --json and for the exit code alike.
struct Report {
  Outcome outcome = Outcome::done;
  std::string summary;  ///< one line
  std::string hint;     ///< the next step; empty when there is none
  std::string patch;    ///< name of the livepatch
  std::string boot_id;  ///< of the guest that was worked on; empty when it was not reached
  bool loaded = false;  ///< the load of a module was begun
  /// The patch is out of force, or on its way there, whatever else may have gone wrong.
  bool taken_out = false;
  std::vector<std::string> beside;  ///< the other livepatches, where it was in force already
  std::vector<Finding> findings;
  std::vector<std::string> replaced;           ///< patches this one took the place of
  std::vector<std::string> unloaded;           ///< modules unloaded in the guest
  PendingTasks blockers;                       ///< who held the transition up when it was given up
  std::vector<std::string> kernel_log;         ///< lines that explain a failure
  std::chrono::milliseconds elapsed{0};        ///< of the whole operation
  std::optional<std::uint64_t> transition_us;  ///< as the guest module measured it
  std::optional<TransitionRecord> transition;  ///< as the host saw it, where it could

  void conclude(Outcome how, std::string text, std::string next_step = {}) {
    outcome = how;
    summary = std::move(text);
    hint = std::move(next_step);
  }
  /// It was begun, and `why` keeps its end from being seen or brought about. Where that is a guest
  /// out of reach, the finding `unseen` says that a look may still find all well.
  void conclude_in_doubt(const Error& why, std::string text, std::string next_step) {
    if (why.outcome == Outcome::unreachable) {
      findings.push_back({Severity::warning, std::string(kUnseen),
                          "what came of it was not seen: " + why.what,
                          "Look again once the guest can be reached."});
    }
    conclude(Outcome::failed_needs_look, std::move(text), std::move(next_step));
  }
};

/// Tells of something at once, and in the report.
inline void warn(Reporter& reporter, Report& report, Finding finding) {
  reporter.warning(finding.text);
  report.findings.push_back(std::move(finding));
}

}  // namespace vpatch
