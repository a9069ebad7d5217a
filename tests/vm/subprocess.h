// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

namespace vpatch::test {

struct ProcessResult {
  int exit_code = -1;  ///< negative: minus the signal that ended it
  std::string out;
  std::string err;
};

/// A program running beside the test, its outputs collected. Ended with SIGKILL if still there at
/// the end.
class Process {
 public:
  explicit Process(const std::vector<std::string>& argv);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  bool running();
  /// Waits for its end and returns what it printed.
  ProcessResult wait();
  /// What it has printed so far.
  std::string out_so_far() const;
  std::string err_so_far() const;

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  bool ended_ = false;
  std::string directory_;  ///< temporary, holds its outputs
};

/// The bytes of a file; empty when it cannot be read.
std::string read_file(const std::string& path);

void write_file(const std::string& path, const std::string& bytes);

ProcessResult run(const std::vector<std::string>& argv);

}  // namespace vpatch::test
