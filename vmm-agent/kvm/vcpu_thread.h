// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "introspect/error.h"
#include "vmm-agent/kvm/vcpu.h"

namespace vpatch::kvm {

/// What the vCPU does after an exit.
enum class AfterExit : std::uint8_t { go_on, stop };

/// Runs one vCPU in a thread of its own, which can be paused and resumed from outside. Between
/// pause() and resume() the vCPU executes nothing and its registers are complete: an I/O
/// instruction under way has been finished.
///
/// A signal (SIGRTMIN + 4, whose handler is installed by the first object and does nothing)
/// interrupts the guest.
///
/// Threads: any thread may call any member; pauses do not nest.
class VcpuThread {
 public:
  /// Called in the vCPU's thread with every exit that is not an interruption. It may fill in what a
  /// read asks for, and must not call members of this object.
  using Handler = std::function<AfterExit(kvm_run& exit)>;

  /// Starts paused. Errc::io when the signal cannot be set up.
  static introspect::Result<std::unique_ptr<VcpuThread>> start(Vcpu vcpu, Handler handler);

  /// Stops the vCPU for good and joins the thread.
  ~VcpuThread();
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  /// Returns when the vCPU executes nothing any more, or another thread resumes it. A vCPU that is
  /// paused or has ended stays so.
  void pause();

  /// Lets a paused vCPU run. What has ended stays so.
  void resume();

  /// Waits until the vCPU has ended: its handler said so (success), or running it failed (the
  /// error).
  introspect::Result<void> wait();

  /// The vCPU, to be used only while it is paused or has ended.
  Vcpu& vcpu() { return vcpu_; }

 private:
  enum class State : std::uint8_t { paused, running, ended };

  VcpuThread(Vcpu vcpu, Handler handler);
  void loop();
  bool may_enter();
  void leave_guest();

  Vcpu vcpu_;
  Handler handler_;
  std::mutex mutex_;  // guards all below but the thread
  std::condition_variable changed_;
  State state_ = State::paused;
  bool want_pause_ = true;
  bool want_end_ = false;
  std::optional<introspect::Error> failure_;
  std::thread thread_;
};

}  // namespace vpatch::kvm
