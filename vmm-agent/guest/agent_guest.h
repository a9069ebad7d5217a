// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "vmm-agent/guest/guest.h"

namespace vpatch {

/// Agent commands that AgentGuest uses; `vpatch doctor` checks that the guest allows them.
inline constexpr std::array<std::string_view, 9> kNeededAgentCommands = {
    "guest-ping",        "guest-info",       "guest-exec",
    "guest-exec-status", "guest-file-open",  "guest-file-write",
    "guest-file-flush",  "guest-file-close", "guest-file-read"};

/// How a livepatch is loaded, enabled and disabled. The kernel's first try to move all tasks is
/// made by the process that does so, with klp_mutex held: in a busy guest it waits for a CPU
/// meanwhile.
enum class Urgency : std::uint8_t {
  ordinary,  ///< as the agent itself runs
  highest,   ///< at nice -20
};

/// The guest through its QEMU guest agent: small fixed shell scripts, run by guest-exec, and file
/// transfer. No text from outside ever becomes part of a script; it is passed as an argument.
class AgentGuest final : public Guest {
 public:
  /// `channel` must outlive this object.
  explicit AgentGuest(qmp::Channel& channel, Urgency urgency = Urgency::ordinary)
      : agent_(channel), urgency_(urgency) {}

  Result<qmp::AgentInfo> agent_info(const qmp::CallOptions& options);

  Result<GuestState> observe(const qmp::CallOptions& options) override;
  Result<PendingTasks> pending_tasks(bool patched, const qmp::CallOptions& options) override;
  Result<std::string> module_build_id(const std::string& module,
                                      const qmp::CallOptions& options) override;
  Result<void> deliver(const std::string& module, std::span<const std::byte> bytes,
                       const std::string& sha256, const qmp::TransferProgress& progress,
                       const qmp::CallOptions& options) override;
  Result<void> remove_delivered(const qmp::CallOptions& options) override;
  Result<ToolResult> load(const std::string& module, const qmp::CallOptions& options) override;
  Result<ToolResult> unload(const std::string& module, const qmp::CallOptions& options) override;
  Result<ToolResult> set_enabled(const std::string& patch, bool enabled,
                                 const qmp::CallOptions& options) override;
  Result<ToolResult> force(const std::string& patch, const qmp::CallOptions& options) override;
  Result<std::string> installed_module(const std::string& module,
                                       const qmp::CallOptions& options) override;
  Result<std::string> log_mark(const qmp::CallOptions& options) override;
  Result<std::vector<std::string>> log_since(const std::string& mark,
                                             const qmp::CallOptions& options) override;

 private:
  Result<qmp::ExecResult> run_script(std::string_view script, std::vector<std::string> arguments,
                                     const qmp::CallOptions& options);
  Result<ToolResult> run_tool(std::string_view script, std::vector<std::string> arguments,
                              const qmp::CallOptions& options);
  std::string with_urgency(std::string_view script) const;
  Result<std::vector<std::string>> log_tail(const qmp::CallOptions& options);

  qmp::GuestAgent agent_;
  Urgency urgency_;
};

}  // namespace vpatch
