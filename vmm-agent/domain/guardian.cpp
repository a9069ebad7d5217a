// SPDX-License-Identifier: Apache-2.0
// The half of the guardian that lives in the process it guards.
#include "vmm-agent/domain/guardian.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm-agent/domain/guardian_process.h"
#include "vmm-agent/spawn_plan.h"

namespace vpatch {
namespace {

using introspect::UniqueFd;

constexpr std::chrono::milliseconds kLookForStop{20};
constexpr std::chrono::milliseconds kDisarmLimit{2000};

/// What libvirt's client needs of the environment; the rest stays here.
constexpr std::array<std::string_view, 9> kEnvironment = {"HOME=",
                                                          "PATH=",
                                                          "USER=",
                                                          "XDG_RUNTIME_DIR=",
                                                          "XDG_CONFIG_HOME=",
                                                          "XDG_CACHE_HOME=",
                                                          "LIBVIRT_AUTH_FILE=",
                                                          "SSH_AUTH_SOCK=",
                                                          "KRB5CCNAME="};

std::unexpected<Error> cannot_start(int number) {
  return fail(Outcome::refused, fmt::format("cannot start the guardian of the pause: {}",
                                            std::generic_category().message(number)));
}

std::unexpected<Error> not_ready(const qmp::CallOptions& options) {
  if (options.stop.stop_requested()) {
    return fail(Outcome::refused, "interrupted");
  }
  return fail(Outcome::refused, "the guardian of the pause does not answer",
              "Without it a pause is not safe; nothing was paused.");
}

/// A duplicate above the numbers that the guardian's descriptors get, so that none overwrites
/// another.
UniqueFd duplicate_high(const UniqueFd& fd) {
  return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, kGuardianParent + 1));
}

std::vector<char*> environment() {
  std::vector<char*> kept;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (std::ranges::any_of(kEnvironment, [&](auto name) { return text.starts_with(name); })) {
      kept.push_back(*entry);
    }
  }
  kept.push_back(nullptr);
  return kept;
}

}  // namespace

Result<Guardian> Guardian::start(const Target& target, std::chrono::milliseconds limit,
                                 const qmp::CallOptions& options, const std::string& program) {
  std::array<int, 2> pair{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    return cannot_start(errno);
  }
  UniqueFd ours(pair[0]);
  UniqueFd theirs = duplicate_high(UniqueFd(pair[1]));
  const UniqueFd parent =
      duplicate_high(UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0))));
  if (!theirs || !parent) {
    return cannot_start(errno);
  }
  SpawnPlan plan;
  plan.give(theirs.get(), kGuardianSocket);
  plan.give(parent.get(), kGuardianParent);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    plan.give_null(stream, O_RDWR);
  }
  // Above all not the monitor's socket, which would stay open when the parent ends.
  plan.close_from(kGuardianParent + 1);
  const auto pid = plan.start(program,
                              {"vpatch", kGuardianVerb, std::to_string(limit.count()), target.uri,
                               target.domain, target.qmp},
                              environment().data());
  if (!pid) {
    return cannot_start(pid.error());
  }
  theirs.reset();             // so that the guardian's end is seen
  std::thread([pid = *pid] {  // so that it never stays a zombie, and nobody waits for its end
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  })
      .detach();
  Guardian guardian(std::move(ours), *pid, limit, target.is_libvirt());
  if (!guardian.exchange('R', 'r', options)) {
    return not_ready(options);
  }
  return guardian;
}

Result<void> Guardian::arm(const PauseLock& lock, const qmp::CallOptions& options) {
  if (exchange('P', 'p', options, lock.fd())) {
    return {};
  }
  static_cast<void>(say('R'));  // it may be armed, or about to be
  socket_.reset();
  return not_ready(options);
}

void Guardian::disarm() {
  if (!exchange('R', 'r', {.timeout = kDisarmLimit, .stop = {}})) {
    socket_.reset();  // its late answer must not be taken for that to a later word
  }
}

void Guardian::disarm_after_failure() {
  if (is_libvirt_) {
    hand_over();
  } else {
    disarm();  // QEMU answers in order: what runs now stays so
  }
}

bool Guardian::say(char word, int fd) const {
  iovec text{&word, 1};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return socket_ && sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

bool Guardian::exchange(char word, char answer, const qmp::CallOptions& options, int fd) {
  const auto deadline = std::chrono::steady_clock::now() + options.timeout;
  if (!say(word, fd)) {
    return false;
  }
  while (!options.stop.stop_requested() && std::chrono::steady_clock::now() < deadline) {
    pollfd wait{socket_.get(), POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(kLookForStop.count())) <= 0) {
      continue;
    }
    char byte = 0;
    if (recv(socket_.get(), &byte, 1, MSG_DONTWAIT) != 1) {
      return false;
    }
    if (byte == answer) {
      return true;
    }
  }
  return false;
}

}  // namespace vpatch
