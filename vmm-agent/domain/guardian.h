// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include <sys/types.h>

#include "introspect/memory/unique_fd.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/pause_lock.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// A process beside this one that resumes the domain when this one ends with a pause outstanding,
/// however it ends, or when a pause outlasts its limit. It ends with its Guardian.
///
/// Past the limit this process is taken for hung, and ended (SIGKILL) before the domain is resumed:
/// it must not write to a guest that runs. So choose a limit far above the pauses that are meant.
///
/// It resumes no pause that was not announced to it. But a monitor does not say who has paused a
/// domain, so two can be mistaken for the announced one. One that somebody else asks for while that
/// one is in force ends with it. And libvirt may carry out a pause up to 30 s after its client has
/// died: where this process ended, or gave up, between announcing a pause and hearing that the
/// domain stands still, the guardian stays for 40 s, and resumes the first pause by a user that it
/// sees, late or somebody else's. It holds the PauseLock as long as it may resume.
///
/// One byte each way, on a socketpair: 'P' (a pause comes) together with the lock, answered 'p'
/// when the guardian is armed; 'S' (the domain stands still); 'R' (resumed), answered 'r'. The end
/// of the stream is the end of this process.
class Guardian {
 public:
  static constexpr const char* kThisProgram = "/proc/self/exe";

  /// Starts `program`, whose main() calls run_guardian(), and waits until it is ready.
  static Result<Guardian> start(const Target& target, std::chrono::milliseconds limit,
                                const qmp::CallOptions& options,
                                const std::string& program = kThisProgram);

  /// To be called before a pause; the limit runs from here. The guardian gets a share of `lock`
  /// until it is disarmed. After an error it is of no use any more, and there must be no pause.
  Result<void> arm(const PauseLock& lock, const qmp::CallOptions& options);
  /// To be called once the domain stands still: no late pause is to be expected from here on.
  void paused() const { static_cast<void>(say('S')); }
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

  bool say(char word, int fd = -1) const;
  bool exchange(char word, char answer, const qmp::CallOptions& options, int fd = -1);

  introspect::UniqueFd socket_;
  pid_t pid_ = -1;
  std::chrono::milliseconds limit_{};
  bool is_libvirt_ = false;
};

}  // namespace vpatch
