// SPDX-License-Identifier: Apache-2.0
// guest-tasks start ROUNDS | dump: a static program for the test guest. `start` leaves tasks behind
// that sleep in the kernel, ROUNDS of each kind. `dump` prints what the guest's own /proc says of
// every thread: a line "T tid pid state start switches name", then its stack as the kernel prints
// it.
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/guest_sleepers.h"

namespace vpatch::test {
namespace {

/// The outputs belong to whoever started this program and waits for their end.
void leave_outputs() {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2; ++fd) {
    must(dup2(null, fd) == fd);
  }
}

int start(int rounds) {
  std::vector<std::pair<pid_t, const char*>> children;
  for (int round = 0; round < rounds; ++round) {
    for (const SleeperKind& kind : sleeper_kinds()) {
      const pid_t child = fork();
      if (child < 0) {
        std::perror("guest-tasks: fork");
        return 1;
      }
      if (child == 0) {
        leave_outputs();
        call_thread(kind.name);
        kind.enter();
        _exit(2);
      }
      children.emplace_back(child, kind.name);
    }
  }
  // A kind that the kernel lacks ends within the next second.
  std::this_thread::sleep_for(std::chrono::seconds(1));
  int failures = 0;
  for (const auto& [child, name] : children) {
    if (waitpid(child, nullptr, WNOHANG) == child) {
      std::fprintf(stderr, "guest-tasks: %s does not stay\n", name);
      ++failures;
    }
  }
  return failures == 0 ? 0 : 1;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The names in a directory of /proc that are numbers, in their order.
std::vector<std::string> numbers_in(const std::string& path) {
  std::vector<std::string> names;
  if (DIR* const directory = opendir(path.c_str())) {
    while (const dirent* const entry = readdir(directory)) {  // NOLINT(concurrency-mt-unsafe)
      if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    closedir(directory);
  }
  return names;
}

unsigned long long number_after(const std::string& text, std::string_view key) {
  const std::size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

/// /proc/PID/stat has the name in brackets, then the state, and the start time 19 fields later.
std::string start_time(const std::string& stat) {
  std::size_t at = stat.rfind(')') + 1;
  for (int field = 0; field < 19 && at != std::string::npos; ++field) {
    at = stat.find(' ', at + 1);
  }
  if (at == std::string::npos) {
    return "0";
  }
  return stat.substr(at + 1, stat.find(' ', at + 1) - at - 1);
}

void dump_thread(const std::string& pid, const std::string& tid) {
  const std::string folder = "/proc/" + pid + "/task/" + tid + "/";
  const std::string stat = read_text(folder + "stat");
  const std::string status = read_text(folder + "status");
  std::string name = read_text(folder + "comm");
  if (stat.empty() || name.empty()) {
    return;  // it has just ended
  }
  name.pop_back();
  const auto switches = number_after(status, "\nvoluntary_ctxt_switches:") +
                        number_after(status, "\nnonvoluntary_ctxt_switches:");
  std::printf("T %s %s %c %s %llu %s\n%s", tid.c_str(), pid.c_str(), stat.at(stat.rfind(')') + 2),
              start_time(stat).c_str(), switches, name.c_str(),
              read_text(folder + "stack").c_str());
}

int dump() {
  for (const std::string& pid : numbers_in("/proc")) {
    for (const std::string& tid : numbers_in("/proc/" + pid + "/task")) {
      dump_thread(pid, tid);
    }
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vpatch::test

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (verb == "start" && argc > 2) {
    return vpatch::test::start(std::atoi(argv[2]));  // NOLINT(cert-err34-c): the test says a number
  }
  if (verb == "dump") {
    return vpatch::test::dump();
  }
  std::fputs("usage: guest-tasks start ROUNDS | dump\n", stderr);
  return 2;
}
