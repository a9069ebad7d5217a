// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/guest_sleepers.h"

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <string>
#include <thread>

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vpatch::test {

void must(bool fine) {
  if (!fine) {
    _exit(1);
  }
}

void call_thread(const char* name) {
  must(prctl(PR_SET_NAME, name) == 0);
}

namespace {

[[noreturn]] void pause_forever() {
  for (;;) {
    pause();
  }
}

pid_t fork_or_end() {
  const pid_t child = fork();
  must(child >= 0);
  return child;
}

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  must(pipe(ends.data()) == 0);
  return ends;
}

std::array<int, 2> make_sockets(int type) {
  std::array<int, 2> ends{};
  must(socketpair(AF_UNIX, type, 0, ends.data()) == 0);
  return ends;
}

std::string own_path(const char* what) {
  return std::string("/tmp/guest-tasks-") + what + std::to_string(getpid());
}

void read_byte(int fd) {
  char byte = 0;
  static_cast<void>(read(fd, &byte, 1));
}

void write_until_full(int fd) {
  const std::array<char, 4096> bytes{};
  while (write(fd, bytes.data(), bytes.size()) > 0) {
  }
}

// Time and signals
void in_nanosleep() {
  timespec long_time{1'000'000, 0};
  nanosleep(&long_time, nullptr);
}
void in_clock_nanosleep() {
  timespec until{};
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 1'000'000;
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}
void in_sigsuspend() {
  sigset_t none;
  sigemptyset(&none);
  sigsuspend(&none);
}
void in_sigwait() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  sigprocmask(SIG_BLOCK, &wanted, nullptr);
  sigwaitinfo(&wanted, nullptr);
}
void in_signalfd() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  sigprocmask(SIG_BLOCK, &wanted, nullptr);
  signalfd_siginfo info{};
  static_cast<void>(read(signalfd(-1, &wanted, 0), &info, sizeof info));
}
void in_timerfd() {
  std::uint64_t count = 0;
  static_cast<void>(read(timerfd_create(CLOCK_MONOTONIC, 0), &count, sizeof count));
}
void in_eventfd() {
  std::uint64_t count = 0;
  static_cast<void>(read(eventfd(0, 0), &count, sizeof count));
}
void in_stop() {
  must(raise(SIGSTOP) == 0);
}

// Pipes and files
void in_pipe_read() {
  read_byte(make_pipe()[0]);
}
void in_pipe_write() {
  write_until_full(make_pipe()[1]);
}
void in_fifo_open() {
  const std::string path = own_path("fifo");
  must(mkfifo(path.c_str(), 0600) == 0);
  static_cast<void>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
}
void in_terminal_read() {
  read_byte(posix_openpt(O_RDWR | O_NOCTTY));
}
void in_inotify() {
  read_byte(inotify_init1(0));
}
void in_flock() {
  const std::string path = own_path("flock");
  const int first = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int second = open(path.c_str(), O_RDWR | O_CLOEXEC);
  must(flock(first, LOCK_EX) == 0);
  flock(second, LOCK_EX);
}
void in_record_lock() {
  const int fd = open(own_path("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct flock whole{};
  whole.l_type = F_WRLCK;
  const auto ready = make_pipe();
  if (fork_or_end() == 0) {
    must(fcntl(fd, F_SETLK, &whole) == 0 && write(ready[1], "", 1) == 1);
    pause_forever();
  }
  read_byte(ready[0]);
  fcntl(fd, F_SETLKW, &whole);
}

// Many at once
void in_poll() {
  pollfd one{make_pipe()[0], POLLIN, 0};
  poll(&one, 1, -1);
}
void in_select() {
  const int fd = make_pipe()[0];
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  select(fd + 1, &set, nullptr, nullptr, nullptr);
}
void in_epoll() {
  const int poller = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  must(epoll_ctl(poller, EPOLL_CTL_ADD, make_pipe()[0], &event) == 0);
  epoll_wait(poller, &event, 1, -1);
}
void in_io_getevents() {
  aio_context_t context = 0;
  must(syscall(SYS_io_setup, 1, &context) == 0);
  io_event event{};
  syscall(SYS_io_getevents, context, 1, 1, &event, nullptr);
}
void in_io_uring() {
  io_uring_params params{};
  const long ring = syscall(SYS_io_uring_setup, 1, &params);
  must(ring >= 0);
  syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, nullptr, 0);
}

// Sockets
void in_unix_accept() {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  own_path("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  must(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
       listen(fd, 1) == 0);
  accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
}
void in_tcp_accept() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(listen(fd, 1) == 0);
  accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
}
void in_udp_recv() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  must(bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0);
  char byte = 0;
  recv(fd, &byte, 1, 0);
}
void in_netlink_recv() {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  must(fd >= 0);
  char byte = 0;
  recv(fd, &byte, 1, 0);
}
void in_stream_recv() {
  read_byte(make_sockets(SOCK_STREAM)[0]);
}
void in_stream_send() {
  write_until_full(make_sockets(SOCK_STREAM)[0]);
}
void in_datagram_send() {
  write_until_full(make_sockets(SOCK_DGRAM)[0]);
}

// System V and POSIX messages
void in_semop() {
  sembuf down{0, -1, 0};
  const int id = semget(IPC_PRIVATE, 1, 0600);
  must(id >= 0);
  semop(id, &down, 1);
}
void in_msgrcv() {
  const int id = msgget(IPC_PRIVATE, 0600);
  must(id >= 0);
  std::array<long, 2> message{};
  msgrcv(id, message.data(), sizeof(long), 0, 0);
}
void in_mq_receive() {
  mq_attr small{};
  small.mq_maxmsg = 1;
  small.mq_msgsize = 8;
  const mqd_t queue = mq_open(("/queue" + std::to_string(getpid())).c_str(),
                              O_RDWR | O_CREAT | O_CLOEXEC, 0600, &small);
  must(queue >= 0);
  std::array<char, 8> message{};
  mq_receive(queue, message.data(), message.size(), nullptr);
}

// Other tasks
void in_wait_for_child() {
  const pid_t child = fork_or_end();
  if (child == 0) {
    call_thread("gt-child");
    pause_forever();
  }
  waitpid(child, nullptr, 0);
}
void beside_zombie() {
  if (fork_or_end() == 0) {
    call_thread("gt-zombie");
    _exit(0);
  }
  pause_forever();
}
void in_vfork() {
  if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, nullptr, nullptr, nullptr, nullptr) == 0) {
    call_thread("gt-vforked");
    pause_forever();
  }
}
void beside_traced() {
  if (fork_or_end() == 0) {
    call_thread("gt-traced");
    must(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
    raise(SIGSTOP);
  }
  pause_forever();
}
void in_futex() {
  std::mutex mutex;
  mutex.lock();
  std::thread waiter([&mutex] {
    call_thread("gt-futex-thread");
    const std::scoped_lock lock(mutex);
  });
  std::thread sleeper([] {
    call_thread("gt-sleep-thread");
    pause_forever();
  });
  waiter.join();
  sleeper.join();
}
/// A process whose first thread has ended while another one lives on.
void beside_dead_leader() {
  std::thread([] {
    call_thread("gt-orphan");
    pause_forever();
  }).detach();
  pthread_exit(nullptr);
}

/// Memory whose first use waits until somebody fills it, and nobody does.
void* missing_page() {
  const long fd = syscall(SYS_userfaultfd, O_CLOEXEC);
  uffdio_api api{};
  api.api = UFFD_API;
  constexpr std::size_t kPage = 4096;
  void* const page =
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_register range{};
  range.range = {reinterpret_cast<std::uintptr_t>(page), kPage};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  must(fd >= 0 && page != MAP_FAILED && ioctl(static_cast<int>(fd), UFFDIO_API, &api) == 0 &&
       ioctl(static_cast<int>(fd), UFFDIO_REGISTER, &range) == 0);
  return page;
}
/// A page fault of user mode.
void in_user_fault() {
  *static_cast<volatile char*>(missing_page()) = 1;
}
/// A page fault of the kernel, in the middle of a system call.
void in_kernel_fault() {
  const auto ends = make_pipe();
  void* const page = missing_page();
  must(write(ends[1], "x", 1) == 1);
  static_cast<void>(read(ends[0], page, 1));
}

constexpr auto kKinds = std::to_array<SleeperKind>({
    {"gt-nanosleep", in_nanosleep},
    {"gt-clocksleep", in_clock_nanosleep},
    {"gt-sigsuspend", in_sigsuspend},
    {"gt-sigwait", in_sigwait},
    {"gt-signalfd", in_signalfd},
    {"gt-timerfd", in_timerfd},
    {"gt-eventfd", in_eventfd},
    {"gt-stopped", in_stop},
    {"gt-pipe-read", in_pipe_read},
    {"gt-pipe-write", in_pipe_write},
    {"gt-fifo-open", in_fifo_open},
    {"gt-tty-read", in_terminal_read},
    {"gt-inotify", in_inotify},
    {"gt-flock", in_flock},
    {"gt-lock", in_record_lock},
    {"gt-poll", in_poll},
    {"gt-select", in_select},
    {"gt-epoll", in_epoll},
    {"gt-io-getevents", in_io_getevents},
    {"gt-io-uring", in_io_uring},
    {"gt-unix-accept", in_unix_accept},
    {"gt-tcp-accept", in_tcp_accept},
    {"gt-udp-recv", in_udp_recv},
    {"gt-netlink", in_netlink_recv},
    {"gt-stream-recv", in_stream_recv},
    {"gt-stream-send", in_stream_send},
    {"gt-dgram-send", in_datagram_send},
    {"gt-semop", in_semop},
    {"gt-msgrcv", in_msgrcv},
    {"gt-mq-receive", in_mq_receive},
    {"gt-wait", in_wait_for_child},
    {"gt-by-zombie", beside_zombie},
    {"gt-vfork", in_vfork},
    {"gt-by-traced", beside_traced},
    {"gt-futex", in_futex},
    {"gt-dead-leader", beside_dead_leader},
    {"gt-user-fault", in_user_fault},
    {"gt-kernel-fault", in_kernel_fault},
});

}  // namespace

std::span<const SleeperKind> sleeper_kinds() {
  return kKinds;
}

}  // namespace vpatch::test
