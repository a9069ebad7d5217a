// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include <sys/types.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// A process beside this one that resumes the domain when this one ends with a pause outstanding,
/// however it ends, or when a pause outlasts its limit. It never resumes a pause that was not
/// announced to it. It ends with its Guardian.
///
/// Past the limit this process is taken for hung. Through libvirt the guardian then resumes by a
/// connection of its own, opened before the first pause. A plain QEMU's monitor takes one client at
/// a time: while this process holds it, the guardian has to end this process (SIGKILL) first. So
/// choose a limit far above the pauses that are meant.
///
/// One byte each way, on a socketpair: 'P' (a pause comes), answered 'p' when the guardian is
/// armed; 'R' (resumed), answered 'r'. The end of the stream is the end of this process.
class Guardian {
 public:
  static constexpr const char* kThisProgram = "/proc/self/exe";

  /// Starts `program`, whose main() calls run_guardian(), and waits until it is ready.
  static Result<Guardian> start(const Target& target, std::chrono::milliseconds limit,
                                const qmp::CallOptions& options,
                                const std::string& program = kThisProgram);

  /// To be called before a pause; the limit runs from here. After an error the guardian is of no
  /// use any more, and there must be no pause.
  Result<void> arm(const qmp::CallOptions& options);
  /// To be called after the domain was resumed.
  void disarm();
  /// The same after a pause that failed. libvirt may carry that out later: the guardian stays a
  /// while to see, and is of no use for another pause.
  void disarm_after_failure();
  /// Leaves an outstanding pause to the guardian.
  void hand_over() { socket_.reset(); }

  std::chrono::milliseconds limit() const { return limit_; }
  pid_t pid() const { return pid_; }

 private:
  Guardian(introspect::UniqueFd socket, pid_t pid, std::chrono::milliseconds limit, bool is_libvirt)
      : socket_(std::move(socket)), pid_(pid), limit_(limit), is_libvirt_(is_libvirt) {}

  bool say(char word) const;
  bool exchange(char word, char answer, const qmp::CallOptions& options);

  introspect::UniqueFd socket_;
  pid_t pid_ = -1;
  std::chrono::milliseconds limit_{};
  bool is_libvirt_ = false;
};

}  // namespace vpatch
