// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <sys/types.h>

#include "introspect/memory/unique_fd.h"

namespace vpatch {

/// Bound of a wait that only a broken test meets.
inline constexpr std::chrono::seconds kPatience{60};

/// A process of any parent, by a descriptor that cannot come to mean another one.
class Watched {
 public:
  explicit Watched(pid_t pid);
  /// Waits for its end.
  bool ends(std::chrono::milliseconds limit = kPatience) const;
  void signal(int number) const;

 private:
  introspect::UniqueFd fd_;
};

/// A child process, killed at the end of the test. `inherited` descriptors keep their numbers.
class Child {
 public:
  explicit Child(std::vector<std::string> words, const std::vector<int>& inherited = {});
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  /// Its next line of output; empty when it ended.
  std::string read_line() const;
  void kill() const;
  /// Waits for its end: its exit code, or minus the signal that ended it.
  int wait();

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  bool ended_ = false;
  introspect::UniqueFd output_;
};

}  // namespace vpatch
