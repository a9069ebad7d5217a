// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include <array>
#include <csignal>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vpatch {
namespace {

class NeedsLockFolder : public testing::Environment {
 public:
  void SetUp() override {
    if (geteuid() != 0 && access("/run/vpatch", W_OK) != 0) {
      GTEST_SKIP() << "/run/vpatch is not writable for this user: nothing may be paused";
    }
  }
};

// GoogleTest owns it.
[[maybe_unused]] const testing::Environment* const kNeedsLockFolder =
    testing::AddGlobalTestEnvironment(new NeedsLockFolder);

}  // namespace

Watched::Watched(pid_t pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {
  EXPECT_TRUE(fd_) << "no process " << pid;
}

bool Watched::ends(std::chrono::milliseconds limit) const {
  pollfd wait{fd_.get(), POLLIN, 0};
  return poll(&wait, 1, static_cast<int>(limit.count())) == 1;
}

void Watched::signal(int number) const {
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, fd_.get(), number, nullptr, 0), 0);
}

Child::Child(std::vector<std::string> words, const std::vector<int>& inherited) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  output_.reset(ends[0]);
  const introspect::UniqueFd input(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), STDOUT_FILENO);
  for (const int fd : inherited) {
    posix_spawn_file_actions_adddup2(&actions, fd, fd);  // to itself: takes its close-on-exec off
  }
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  EXPECT_EQ(posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0)
      << words[0] << " does not start; it is needed by this test";
  posix_spawn_file_actions_destroy(&actions);
}

Child::~Child() {
  kill();
  wait();
}

std::string Child::read_line() const {
  std::string line;
  for (char c = 0; read(output_.get(), &c, 1) == 1 && c != '\n';) {
    line += c;
  }
  return line;
}

void Child::kill() const {
  if (!ended_ && pid_ > 0) {
    ::kill(pid_, SIGKILL);
  }
}

int Child::wait() {
  if (!ended_ && pid_ > 0) {
    waitpid(pid_, &status_, 0);
    ended_ = true;
  }
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
}

}  // namespace vpatch
