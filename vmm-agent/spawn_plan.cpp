// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/spawn_plan.h"

#include <algorithm>
#include <csignal>
#include <iterator>

namespace vpatch {

SpawnPlan::SpawnPlan() {
  posix_spawn_file_actions_init(&actions_);
  posix_spawnattr_init(&attributes_);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes_, &none);
  posix_spawnattr_setsigdefault(&attributes_, &none);
  posix_spawnattr_setflags(&attributes_,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

SpawnPlan::~SpawnPlan() {
  posix_spawn_file_actions_destroy(&actions_);
  posix_spawnattr_destroy(&attributes_);
}

void SpawnPlan::give(int fd, int number) {
  posix_spawn_file_actions_adddup2(&actions_, fd, number);
}

void SpawnPlan::give_null(int number, int flags) {
  posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", flags, 0);
}

void SpawnPlan::close_from(int first) {
  posix_spawn_file_actions_addclosefrom_np(&actions_, first);
}

void SpawnPlan::reset_signals(std::initializer_list<int> signals) {
  sigset_t usual;
  sigemptyset(&usual);
  for (const int number : signals) {
    sigaddset(&usual, number);
  }
  posix_spawnattr_setsigdefault(&attributes_, &usual);
}

std::expected<pid_t, int> SpawnPlan::start(const std::string& program,
                                           std::vector<std::string> words,
                                           char* const* environment) const {
  std::vector<char*> argv;
  std::ranges::transform(words, std::back_inserter(argv), [](std::string& w) { return w.data(); });
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int failure =
      posix_spawnp(&pid, program.c_str(), &actions_, &attributes_, argv.data(), environment);
  if (failure != 0) {
    return std::unexpected(failure);
  }
  return pid;
}

}  // namespace vpatch
