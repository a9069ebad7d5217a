// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <expected>
#include <initializer_list>
#include <string>
#include <vector>

#include <spawn.h>
#include <sys/types.h>

namespace vpatch {

/// How a child process is to begin: in a session of its own, where a terminal's Ctrl-C does not
/// reach it, and with no signal blocked. Its descriptors are made ready in the order of the calls.
class SpawnPlan {
 public:
  SpawnPlan();
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan();

  /// Ours `fd` is the child's `number`.
  void give(int fd, int number);
  /// `flags` as of open().
  void give_null(int number, int flags);
  /// The child gets no descriptor from `first` on.
  void close_from(int first);
  /// The child does not inherit that these are ignored.
  void reset_signals(std::initializer_list<int> signals);

  /// `words` begin with the program's own name; a `program` without '/' is looked for in PATH. An
  /// errno when it cannot be started.
  std::expected<pid_t, int> start(const std::string& program, std::vector<std::string> words,
                                  char* const* environment) const;

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace vpatch
