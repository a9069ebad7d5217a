// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/subprocess.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vpatch::test {

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

Process::Process(const std::vector<std::string>& argv) {
  std::string name = std::filesystem::temp_directory_path() / "vpatch-test-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("mkdtemp failed");
  }
  directory_ = name;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (directory_ + "/out").c_str(),
                                   O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (directory_ + "/err").c_str(),
                                   O_WRONLY | O_CREAT, 0600);
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  const int error = posix_spawnp(&pid_, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::runtime_error("cannot start " + argv.at(0));
  }
}

Process::~Process() {
  if (running()) {
    kill(pid_, SIGKILL);
    wait();
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void Process::signal(int number) const {
  if (!ended_) {
    kill(pid_, number);
  }
}

bool Process::running() {
  if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) {
    ended_ = true;
  }
  return !ended_;
}

ProcessResult Process::wait() {
  if (!ended_) {
    waitpid(pid_, &status_, 0);
    ended_ = true;
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  return {code, out_so_far(), err_so_far()};
}

std::string Process::out_so_far() const {
  return read_file(directory_ + "/out");
}
std::string Process::err_so_far() const {
  return read_file(directory_ + "/err");
}

ProcessResult run(const std::vector<std::string>& argv) {
  return Process(argv).wait();
}

}  // namespace vpatch::test
