// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "qmp/channel.h"
#include "qmp/guest_agent.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"

namespace vpatch {

/// What a program in the guest said when it was asked to change something.
struct ToolResult {
  bool ok = false;
  std::string message;  ///< what it printed on its error output, one line, printable
};

/// The guest as the operations need it: what they look at, and the few changes they make. The one
/// implementation speaks through the guest agent; tests put a fake kernel in its place.
///
/// Every call is bounded by its options and fails with Outcome::unreachable when the guest does not
/// answer. A change that the guest itself refuses is a ToolResult, not an error.
class Guest {
 public:
  Guest() = default;
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  virtual ~Guest() = default;

  virtual Result<GuestState> observe(const qmp::CallOptions& options) = 0;
  /// Tasks whose patch state is not yet `patched`; only meaningful while a transition runs.
  virtual Result<PendingTasks> pending_tasks(bool patched, const qmp::CallOptions& options) = 0;
  /// Build id of a loaded module, lower-case hexadecimal; empty when it has none.
  virtual Result<std::string> module_build_id(const std::string& module,
                                              const qmp::CallOptions& options) = 0;

  /// Puts the file where load() finds it, in place of all earlier left-overs; remove_delivered()
  /// takes them away.
  /// What has arrived is held against `sha256`, of the bytes, as lower-case hexadecimal.
  virtual Result<void> deliver(const std::string& module, std::span<const std::byte> bytes,
                               const std::string& sha256, const qmp::TransferProgress& progress,
                               const qmp::CallOptions& options) = 0;
  virtual Result<void> remove_delivered(const qmp::CallOptions& options) = 0;

  /// Loads what was delivered. The guest itself takes the file away then, whatever came of it.
  virtual Result<ToolResult> load(const std::string& module, const qmp::CallOptions& options) = 0;
  virtual Result<ToolResult> unload(const std::string& module, const qmp::CallOptions& options) = 0;
  /// Writes /sys/kernel/livepatch/<patch>/enabled, having told the guest module, where there is
  /// one, to watch.
  virtual Result<ToolResult> set_enabled(const std::string& patch, bool enabled,
                                         const qmp::CallOptions& options) = 0;

  /// Writes 1 to /sys/kernel/livepatch/<patch>/force: moves all tasks at once, wherever they are.
  virtual Result<ToolResult> force(const std::string& patch, const qmp::CallOptions& options) = 0;
  /// The file of a module that is installed for the running kernel, uncompressed; empty when none
  /// is.
  virtual Result<std::string> installed_module(const std::string& module,
                                               const qmp::CallOptions& options) = 0;

  /// The kernel log's last line now; log_since() returns the lines after it (the last 500 when it
  /// is gone).
  virtual Result<std::string> log_mark(const qmp::CallOptions& options) = 0;
  virtual Result<std::vector<std::string>> log_since(const std::string& mark,
                                                     const qmp::CallOptions& options) = 0;
};

}  // namespace vpatch
