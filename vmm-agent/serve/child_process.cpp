// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/child_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm-agent/spawn_plan.h"

namespace vpatch::serve {
namespace {

using introspect::UniqueFd;

std::unexpected<Error> cannot_start(const std::string& program, int number) {
  return fail(Outcome::internal,
              fmt::format("cannot start {}: {}", program, std::generic_category().message(number)));
}

struct Pipe {
  UniqueFd from;
  UniqueFd to;
};

Pipe make_pipe() {
  std::array<int, 2> ends{-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return {};
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

ChildEnd reap(int pidfd) {
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) != 0 && errno == EINTR) {
  }
  return info.si_code == CLD_EXITED ? ChildEnd{info.si_status, 0} : ChildEnd{-1, info.si_status};
}

}  // namespace

Result<std::shared_ptr<ChildProcess>> ChildProcess::start(
    const boost::asio::any_io_executor& executor, const ChildSetup& setup, EndHandler on_end) {
  Pipe input = setup.input ? make_pipe() : Pipe{};
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  if (!output.from || !errors.from || (setup.input && !input.to)) {
    return cannot_start(setup.program, errno);
  }
  SpawnPlan plan;
  if (input.from) {
    plan.give(input.from.get(), STDIN_FILENO);
  } else {
    plan.give_null(STDIN_FILENO, O_RDONLY);
  }
  plan.give(output.to.get(), STDOUT_FILENO);
  plan.give(errors.to.get(), STDERR_FILENO);
  if (setup.file >= 0) {
    plan.give(setup.file, kChildFile);
  }
  plan.close_from(setup.file >= 0 ? kChildFile + 1 : kChildFile);
  plan.reset_signals({SIGINT, SIGTERM, SIGHUP, SIGPIPE});
  const auto pid = plan.start(setup.program, setup.words, environ);
  if (!pid) {
    return cannot_start(setup.program, pid.error());
  }
  // Nobody else waits for it: the number means it until it is reaped here.
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  auto child = std::make_shared<ChildProcess>(executor);
  boost::system::error_code ec(pidfd ? 0 : errno, boost::system::system_category());
  if (pidfd) {
    child->watch_.assign(pidfd.get(), ec);
  }
  if (ec) {
    kill(*pid, SIGKILL);  // it has hardly begun
    waitpid(*pid, nullptr, 0);
    return cannot_start(setup.program, ec.value());
  }
  static_cast<void>(pidfd.release());
  child->pid_ = *pid;
  child->input = std::move(input.to);
  child->output = std::move(output.from);
  child->errors = std::move(errors.from);
  child->watch(std::move(on_end));
  return child;
}

void ChildProcess::watch(EndHandler on_end) {
  watch_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                    [self = shared_from_this(),
                     handler = std::move(on_end)](const boost::system::error_code& ec) {
                      if (ec) {
                        return;
                      }
                      const ChildEnd end = reap(self->watch_.native_handle());
                      boost::system::error_code ignored;
                      self->watch_.close(ignored);
                      handler(end);
                    });
}

void ChildProcess::signal(int number) {
  if (watch_.is_open()) {
    syscall(SYS_pidfd_send_signal, watch_.native_handle(), number, nullptr, 0);
  }
}

void ChildProcess::signal_group(int number) {
  if (watch_.is_open()) {
    kill(-pid_, number);
  }
}

}  // namespace vpatch::serve
