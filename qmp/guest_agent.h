// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qmp/channel.h"

namespace vpatch::qmp {

/// Reply to guest-info: the agent's version, and each command with whether its configuration allows
/// it.
struct AgentInfo {
  std::string version;
  std::map<std::string, bool, std::less<>> commands;

  bool allows(std::string_view command) const;
};

/// A program to run in the guest. `path` is looked up in the agent's PATH when it has no slash.
struct ExecRequest {
  std::string path;
  std::vector<std::string> arguments;
  std::string input{};  ///< bytes for its standard input
};

/// How a program in the guest ended. The outputs are bytes as the guest sent them: untrusted.
struct ExecResult {
  std::optional<int> exit_code;  ///< when it ended by itself
  std::optional<int> signal;     ///< when a signal ended it
  std::string out;
  std::string err;
  bool truncated = false;  ///< the agent cut an output

  bool ok() const { return exit_code == 0; }
};

/// Told after each chunk of a transfer: bytes done so far and bytes in all.
using TransferProgress = std::function<void(std::size_t done, std::size_t total)>;

/// The QEMU guest agent, spoken to over any Channel. The agent's replies come from the guest and
/// are hostile input: every field is checked, every size capped.
///
/// `options.timeout` bounds each single agent command, except in exec(), where it bounds the whole
/// run of the program. After a triggered stop token or a timeout, exec() returns while the program
/// may go on.
class GuestAgent {
 public:
  explicit GuestAgent(Channel& channel) : channel_(channel) {}

  /// guest-ping: the agent is there and answers.
  Result<void> ping(const CallOptions& options);

  /// guest-info.
  Result<AgentInfo> info(const CallOptions& options);

  /// Creates or truncates `path` in the guest and writes `data` in chunks, flushes and closes it.
  /// On any error after the open, closes the handle (best effort) and leaves the file for the
  /// caller to remove.
  Result<void> write_file(const std::string& path, std::span<const std::byte> data,
                          const CallOptions& options, const TransferProgress& progress = {});

  /// Reads at most `max_bytes` of a file; a longer file is Errc::too_large.
  Result<std::string> read_file(const std::string& path, std::size_t max_bytes,
                                const CallOptions& options);

  /// guest-exec with captured output, then guest-exec-status until the program has ended.
  Result<ExecResult> exec(const ExecRequest& request, const CallOptions& options);

 private:
  Channel& channel_;
};

}  // namespace vpatch::qmp
