// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/kvm/vcpu_thread.h"

#include <cerrno>
#include <csignal>
#include <utility>

#include <pthread.h>

#include "introspect/memory/host_error.h"

namespace vpatch::kvm {
namespace {

int kick_signal() {
  return SIGRTMIN + 4;
}

/// The signal only has to interrupt KVM_RUN; without SA_RESTART it does.
introspect::Result<void> install_kick() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  if (::sigaction(kick_signal(), &action, nullptr) != 0) {
    return introspect::fail_errno("set up the signal that stops a vCPU", errno);
  }
  return {};
}

void unblock_kick() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kick_signal());
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

VcpuThread::VcpuThread(Vcpu vcpu, Handler handler)
    : vcpu_(std::move(vcpu)), handler_(std::move(handler)) {}

introspect::Result<std::unique_ptr<VcpuThread>> VcpuThread::start(Vcpu vcpu, Handler handler) {
  if (auto installed = install_kick(); !installed) {
    return std::unexpected(std::move(installed).error());
  }
  std::unique_ptr<VcpuThread> self(new VcpuThread(std::move(vcpu), std::move(handler)));
  self->thread_ = std::thread([raw = self.get()] { raw->loop(); });
  return self;
}

VcpuThread::~VcpuThread() {
  {
    const std::lock_guard lock(mutex_);
    want_end_ = true;
    leave_guest();
  }
  changed_.notify_all();
  thread_.join();
}

/// Makes the thread come out of the guest, or not enter it. First the flag, then the signal: a
/// signal that comes before the thread enters KVM_RUN is lost, the flag is not.
void VcpuThread::leave_guest() {
  if (state_ == State::running) {
    vcpu_.request_exit(true);
    pthread_kill(thread_.native_handle(), kick_signal());
  }
}

void VcpuThread::pause() {
  std::unique_lock lock(mutex_);
  want_pause_ = true;
  leave_guest();
  changed_.wait(lock, [&] { return state_ != State::running || !want_pause_; });
}

void VcpuThread::resume() {
  {
    const std::lock_guard lock(mutex_);
    want_pause_ = false;
    if (state_ != State::ended) {
      vcpu_.request_exit(false);
      state_ = State::running;
    }
  }
  changed_.notify_all();
}

introspect::Result<void> VcpuThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return state_ == State::ended; });
  if (failure_) {
    return std::unexpected(*failure_);
  }
  return {};
}

/// In the thread, outside of the guest: stays here while a pause is wanted. False when it is over.
bool VcpuThread::may_enter() {
  std::unique_lock lock(mutex_);
  if (want_pause_) {
    state_ = State::paused;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return want_end_ || state_ == State::running; });
  return !want_end_;
}

void VcpuThread::loop() {
  unblock_kick();
  std::optional<introspect::Error> failure;
  // Only an interrupted run() leaves the registers complete, so a pause waits for one.
  for (bool interrupted = true; !interrupted || may_enter();) {
    const auto exit = vcpu_.run();
    if (!exit) {
      failure = exit.error();
      break;
    }
    interrupted = *exit == nullptr;
    if (!interrupted && handler_(const_cast<kvm_run&>(**exit)) == AfterExit::stop) {
      break;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
    state_ = State::ended;
  }
  changed_.notify_all();
}

}  // namespace vpatch::kvm
