// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/rollout/engine.h"

namespace vpatch::fleet {

/// The domains of one connection, as a rollout works with them. Each of the first four is answered
/// exactly once by SessionEvents with the operation's number, but for those that `lost` takes with
/// it. Nothing blocks; no event comes from inside a call. One thread.
class DomainSession {
 public:
  DomainSession() = default;
  DomainSession(const DomainSession&) = delete;
  DomainSession& operator=(const DomainSession&) = delete;
  virtual ~DomainSession() = default;

  /// Connects; `up` or `lost` tells. Once more after `lost`.
  virtual void connect() = 0;

  virtual void look(rollout::DomainId domain, rollout::OperationId operation) = 0;
  virtual void apply(rollout::DomainId domain, rollout::OperationId operation) = 0;
  virtual void check_health(rollout::DomainId domain, rollout::OperationId operation) = 0;
  virtual void revert(rollout::DomainId domain, rollout::OperationId operation) = 0;
  /// Has a domain that is off brought up to date by `vpatch ensure` once it runs again: registers
  /// its livepatch. `left` tells, unless `lost` comes; again does no harm.
  virtual void leave_to_ensure(rollout::DomainId domain) = 0;
  /// Of an operation that has not been answered yet; it still is.
  virtual void cancel(rollout::OperationId operation) = 0;

  /// Interrupts all work, and waits for it as long as `lost` has not come.
  virtual void close() = 0;
};

/// What a session tells.
struct SessionEvents {
  std::function<void(const rollout::Event& event)> answer;  ///< Finished, Looked, HealthVerdict
  std::function<void()> up;
  std::function<void(const std::string& why)> lost;
  /// A domain was left to `vpatch ensure`, or could not be.
  std::function<void(rollout::DomainId, bool registered)> left;
  /// What a verb says while it runs: "step", "warning" or "progress".
  std::function<void(rollout::DomainId, std::string_view kind, const std::string& text)> progress;
  /// What a verb printed, before its answer.
  std::function<void(rollout::DomainId, RolloutStore::ReportKind, const boost::json::object&)>
      report;
  /// Just before a domain's apply. Its answer: whether it is journaled, and the apply may go on.
  std::function<bool(rollout::DomainId, const HealthMark&, const std::vector<std::string>& former)>
      mark;
};

}  // namespace vpatch::fleet
