// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/interrupt.h"

#include <array>
#include <csignal>
#include <cstdint>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace vpatch {

Interrupt::Interrupt() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a peer that hangs up is an error value
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  thread_ = std::jthread([this](const std::stop_token& done) { watch(done); });
}

void Interrupt::watch(const std::stop_token& done) {
  const introspect::UniqueFd wake(eventfd(0, EFD_CLOEXEC));
  const std::stop_callback on_done(done, [&wake] {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake.get(), &one, sizeof one);
  });
  std::array<pollfd, 2> waits = {pollfd{signals_.get(), POLLIN, 0}, pollfd{wake.get(), POLLIN, 0}};
  while (!done.stop_requested()) {
    if (poll(waits.data(), waits.size(), -1) <= 0) {
      continue;
    }
    signalfd_siginfo info{};
    if (read(signals_.get(), &info, sizeof info) == sizeof info) {
      count_ += info.ssi_signo == SIGINT ? 1 : 2;
      source_.request_stop();
    }
  }
}

}  // namespace vpatch
