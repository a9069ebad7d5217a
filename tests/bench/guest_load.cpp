// SPDX-License-Identifier: Apache-2.0
// Keeps a guest busy until it is killed:
//
//   guest_load hogs [yield]  a busy loop on every CPU, which lets other vCPUs run, and a loop of
//   forks guest_load storm COUNT   COUNT tasks in short system calls: some without rest, all others
//   in
//                            bursts with naps between them
//   guest_load readers FILE  on every CPU a loop that opens, reads and closes FILE
//
// Ends at once when the load is there, and prints the load's process group. Linked statically,
// without iostreams, so that the agent delivers it quickly.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <span>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr unsigned kHogTurns = 1000;
constexpr int kThreadsEach = 100;  // tasks of one process of the storm
constexpr int kRestless = 250;     // every so manyth task of the storm never rests
constexpr int kBurst = 16;         // system calls of each kind between two naps

const char* file = "";
bool yielding = false;
int null_file = -1;
int zero_file = -1;

void must(bool good, const char* what) {
  if (!good) {
    std::perror(what);
    _exit(1);
  }
}

void bind_to(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  must(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

/// On a CPU of its own this changes nothing. QEMU without KVM runs all vCPUs in one thread and
/// hands it on here, where a vCPU that only computes would keep it for 100 ms: real CPUs run
/// together.
void let_others_run() {
  __builtin_ia32_pause();
}

[[noreturn]] void hog(int cpu) {
  bind_to(cpu);
  for (volatile unsigned turns = 0;;) {
    turns = turns + 1;
    if (yielding && turns % kHogTurns == 0) {
      let_others_run();
    }
  }
}

[[noreturn]] void fork_for_ever(int) {
  for (;;) {
    const pid_t child = fork();
    if (child == 0) {
      _exit(0);
    }
    if (child > 0) {
      waitpid(child, nullptr, 0);
    }
    let_others_run();
  }
}

[[noreturn]] void read_for_ever(int cpu) {
  bind_to(cpu);
  std::array<char, 4096> text{};
  for (;;) {
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    must(fd >= 0, file);
    must(read(fd, text.data(), text.size()) > 0, file);
    close(fd);
    let_others_run();
  }
}

void short_calls() {
  char byte = 0;
  for (int call = 0; call < kBurst; ++call) {
    syscall(SYS_getppid);
    must(write(null_file, &byte, 1) == 1, "write");
    must(read(zero_file, &byte, 1) == 1, "read");
    sched_yield();
    let_others_run();
  }
}

[[noreturn]] void storm(long task) {
  for (;;) {
    short_calls();
    if (task % kRestless != 0) {
      // From 1 to 2 s, so that they do not all wake up together.
      usleep(static_cast<useconds_t>(1'000'000 + (task % 100) * 10'000));
    }
  }
}

void* storm_thread(void* task) {
  storm(*static_cast<const long*>(task));
}

/// The tasks outlive their threads.
void start_threads(std::span<long> tasks) {
  pthread_attr_t small;
  must(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 32 << 10) == 0,
       "pthread_attr");
  for (long& task : tasks) {
    pthread_t thread{};
    must(pthread_create(&thread, &small, storm_thread, &task) == 0, "pthread_create");
  }
}

/// Forks a part of the load. It says that it is there by closing the writing end of `ready`.
template <class Body>
void start(int ready, const Body& body) {
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    for (int fd = 0; fd <= 2; ++fd) {
      must(dup2(null_file, fd) == fd, "dup2");
    }
    body(ready);
    _exit(1);
  }
}

void start_on_each_cpu(int ready, void (*body)(int)) {
  const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  for (int cpu = 0; cpu < cpus; ++cpu) {
    start(ready, [&](int fd) {
      close(fd);
      body(cpu);
    });
  }
}

void start_storm(int ready, long count) {
  for (long first = 0; first < count; first += kThreadsEach) {
    start(ready, [&](int fd) {
      std::array<long, kThreadsEach> tasks{};
      std::iota(tasks.begin(), tasks.end(), first);
      const auto here = static_cast<std::size_t>(std::min<long>(count - first, kThreadsEach));
      start_threads(std::span(tasks).first(here).subspan(1));
      close(fd);
      storm(first);
    });
  }
}

bool start_load(int ready, const char* kind, const char* argument) {
  if (std::strcmp(kind, "hogs") == 0) {
    yielding = argument != nullptr && std::strcmp(argument, "yield") == 0;
    start_on_each_cpu(ready, hog);
    start(ready, [](int fd) {
      close(fd);
      fork_for_ever(0);
    });
  } else if (std::strcmp(kind, "storm") == 0 && argument != nullptr) {
    start_storm(ready, std::strtol(argument, nullptr, 10));
  } else if (std::strcmp(kind, "readers") == 0 && argument != nullptr) {
    file = argument;
    start_on_each_cpu(ready, read_for_ever);
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  null_file = open("/dev/null", O_RDWR | O_CLOEXEC);
  zero_file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  must(null_file >= 0 && zero_file >= 0, "/dev");
  setpgid(0, 0);
  std::array<int, 2> ready{};
  must(pipe2(ready.data(), O_CLOEXEC) == 0, "pipe");
  if (argc < 2 || !start_load(ready[1], argv[1], argc > 2 ? argv[2] : nullptr)) {
    std::fputs("usage: guest_load hogs [yield] | storm COUNT | readers FILE\n", stderr);
    return 2;
  }
  close(ready[1]);
  char byte = 0;
  must(read(ready[0], &byte, 1) == 0, "read");  // the end of the file: all have closed it
  std::printf("%d\n", getpid());
  return 0;
}
