// SPDX-License-Identifier: Apache-2.0
// Fills a guest with sleeping tasks: guest_tasks COUNT [FILE]. Makes COUNT of them, half processes
// and half second threads, asleep in several places of the kernel, says so in FILE, and ends; they
// stay. Linked statically, without iostreams, so that the agent delivers it quickly.
#include <array>
#include <cstdlib>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

namespace {

using Pipe = std::array<int, 2>;  // its writing end stays open: reading waits for ever

[[noreturn]] void sleep_somewhere(int kind, const Pipe& pipe) {
  for (;;) {
    switch (kind % 4) {
      case 0:
        ::pause();
        break;
      case 1: {
        char byte = 0;
        [[maybe_unused]] const auto got = ::read(pipe[0], &byte, 1);
        break;
      }
      case 2: {
        pollfd wait{pipe[0], POLLIN, 0};
        ::poll(&wait, 1, -1);
        break;
      }
      default: {
        const timespec long_time{1'000'000, 0};
        ::nanosleep(&long_time, nullptr);
      }
    }
  }
}

void* second_thread(void*) {
  // A lock that its own thread holds: a futex that nobody wakes.
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  for (;;) {
    pthread_mutex_lock(&lock);
  }
}

bool start_thread() {
  pthread_attr_t small;
  pthread_t thread{};
  return pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 32 << 10) == 0 &&
         pthread_create(&thread, &small, second_thread, nullptr) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 0;
  Pipe pipe{};
  if (::pipe(pipe.data()) != 0) {
    return 1;
  }
  for (long made = 0; made < count; made += 2) {
    const pid_t child = ::fork();
    if (child < 0) {
      return 1;
    }
    if (child == 0) {
      if (made + 1 < count && !start_thread()) {
        return 1;
      }
      sleep_somewhere(static_cast<int>(made / 2), pipe);
    }
  }
  if (argc > 2) {
    const int done = ::open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (done < 0 || ::close(done) != 0) {
      return 1;
    }
  }
  return 0;
}
