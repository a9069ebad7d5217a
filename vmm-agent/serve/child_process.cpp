// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/child_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

/// posix_spawn()'s two objects.
struct SpawnPlan {
  SpawnPlan(const UniqueFd& input, const UniqueFd& output, const UniqueFd& errors, int file) {
    posix_spawn_file_actions_init(&actions);
    if (input) {
      posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
    } else {
      posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    posix_spawn_file_actions_adddup2(&actions, output.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
    if (file >= 0) {
      posix_spawn_file_actions_adddup2(&actions, file, kChildFile);
    }
    posix_spawn_file_actions_addclosefrom_np(&actions, file >= 0 ? kChildFile + 1 : kChildFile);
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    sigset_t usual;
    sigemptyset(&usual);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
      sigaddset(&usual, number);
    }
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

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
  std::vector<std::string> words = setup.words;
  std::vector<char*> argv;
  std::ranges::transform(words, std::back_inserter(argv), [](std::string& w) { return w.data(); });
  argv.push_back(nullptr);
  const SpawnPlan plan(input.from, output.to, errors.to, setup.file);
  pid_t pid = -1;
  const int failure = posix_spawnp(&pid, setup.program.c_str(), &plan.actions, &plan.attributes,
                                   argv.data(), environ);
  if (failure != 0) {
    return cannot_start(setup.program, failure);
  }
  // Nobody else waits for it: the number means it until it is reaped here.
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  auto child = std::make_shared<ChildProcess>(executor);
  boost::system::error_code ec(pidfd ? 0 : errno, boost::system::system_category());
  if (pidfd) {
    child->watch_.assign(pidfd.get(), ec);
  }
  if (ec) {
    kill(pid, SIGKILL);  // it has hardly begun
    waitpid(pid, nullptr, 0);
    return cannot_start(setup.program, ec.value());
  }
  static_cast<void>(pidfd.release());
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

}  // namespace vpatch::serve
