// SPDX-License-Identifier: Apache-2.0
// The half of the guardian that is a process of its own.
#include "vmm-agent/domain/guardian_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <boost/json.hpp>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "introspect/memory/unique_fd.h"
#include "qmp/socket_channel.h"
#include "vmm-agent/domain/domain.h"

namespace vpatch {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A monitor that is silent that long is held by its other client.
const qmp::CallOptions kConnect{.timeout = milliseconds(500)};
const qmp::CallOptions kCall{.timeout = milliseconds(5000)};
constexpr milliseconds kLookAgain{50};
/// libvirt may carry out a pause that its client asked for and did not live to see: it waits up to
/// 30 s for another job on the domain. QEMU's monitor ends what one client asked for before it
/// greets the next.
constexpr milliseconds kLateSuspend{40'000};
/// For a killed process to end.
constexpr milliseconds kEndOfParent{2'000};
/// For a libvirtd that is started again; longer outages are for people.
constexpr milliseconds kPatience{600'000};

enum class Seen : std::uint8_t {
  resumed,
  running,  ///< nothing to resume, or not yet
  over,     ///< stopped for another reason, or gone: no debt of ours
  unknown,  ///< it could not be asked
};

/// Called before the domain is resumed.
using BeforeResume = std::function<void()>;

Seen look_libvirt(std::unique_ptr<Domain>& domain, const Target& target,
                  const BeforeResume& before) {
  if (domain == nullptr) {
    auto opened = open_domain(target, kCall);
    if (!opened) {
      return Seen::unknown;
    }
    domain = *std::move(opened);
  }
  const auto state = domain->run_state(kCall);
  const bool paused = state && *state == RunState::paused;
  if (paused) {
    before();
    if (domain->resume(kCall)) {
      return Seen::resumed;
    }
  }
  if (!state || paused || *state == RunState::other) {
    domain.reset();  // another connection, the next time
    return Seen::unknown;
  }
  return *state == RunState::running ? Seen::running : Seen::over;
}

Seen look_qemu(const std::string& path, const BeforeResume& before) {
  auto monitor = qmp::MonitorChannel::connect(path, kConnect);
  if (!monitor) {
    const int why = monitor.error().sys_errno;
    return why == ENOENT || why == ECONNREFUSED ? Seen::over : Seen::unknown;
  }
  const auto status = (*monitor)->execute("query-status", {}, kCall);
  const auto* fields = status ? status->if_object() : nullptr;
  const auto* word = fields != nullptr ? fields->if_contains("status") : nullptr;
  if (word == nullptr || !word->is_string()) {
    return Seen::unknown;
  }
  if (word->get_string() != "paused") {  // exactly what `stop` makes of "running"
    return word->get_string() == "running" ? Seen::running : Seen::over;
  }
  before();
  return (*monitor)->execute("cont", {}, kCall) ? Seen::resumed : Seen::unknown;
}

class Watch {
 public:
  Watch(Target target, milliseconds limit) : target_(std::move(target)), limit_(limit) {}

  int run() {
    if (target_.is_libvirt()) {
      auto opened = open_domain(target_, kCall);
      if (!opened) {
        return 1;
      }
      domain_ = *std::move(opened);
    }
    while (true) {
      switch (next_word()) {
        case 'P':
          if (lock_) {
            owed_ = true;
            stood_still_ = false;
            due_ = Clock::now() + limit_;
            answer('p');
          }
          break;
        case 'S':
          stood_still_ = true;
          break;
        case 'R':
          owed_ = false;
          lock_.reset();
          answer('r');
          break;
        case kPastLimit:
          enforce_limit();
          break;
        case kEnd:
          return owed_ ? repay() : 0;
        default:
          break;
      }
    }
  }

 private:
  static constexpr char kEnd = '\0';
  static constexpr char kPastLimit = '!';

  char next_word() {
    while (true) {
      const auto left =
          std::chrono::ceil<milliseconds>(std::max(due_ - Clock::now(), Clock::duration(0)));
      pollfd wait{kGuardianSocket, POLLIN, 0};
      const int ready =
          poll(&wait, 1, owed_ ? static_cast<int>(std::min<long>(left.count(), 60'000)) : -1);
      if (ready > 0) {
        return read_word();
      }
      if (owed_ && Clock::now() >= due_) {
        return kPastLimit;
      }
    }
  }

  /// With the lock, where one comes along.
  char read_word() {
    char word = kEnd;
    iovec text{&word, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(kGuardianSocket, &message, MSG_CMSG_CLOEXEC) != 1) {
      return kEnd;
    }
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
      lock_.reset(fd);
    }
    return word;
  }

  static void answer(char word) {
    static_cast<void>(send(kGuardianSocket, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT));
  }

  Seen look(const BeforeResume& before) {
    return target_.is_libvirt() ? look_libvirt(domain_, target_, before)
                                : look_qemu(target_.qmp, before);
  }

  /// The parent lives. It may yet say 'R', or pause so late that libvirt knows nothing of it now.
  void enforce_limit() {
    const Seen seen = look([] { end_parent(); });
    owed_ = seen == Seen::unknown || (seen == Seen::running && !stood_still_);
    if (seen == Seen::unknown) {
      free_monitor();
    }
    due_ = Clock::now() + kLookAgain;
  }

  /// Returns when it can write to the guest no more, or does not end.
  static void end_parent() {
    syscall(SYS_pidfd_send_signal, kGuardianParent, SIGKILL, nullptr, 0);
    pollfd wait{kGuardianParent, POLLIN, 0};
    poll(&wait, 1, static_cast<int>(kEndOfParent.count()));
  }

  /// Ends the parent, which keeps the guest paused past the limit and everyone else from its only
  /// monitor.
  void free_monitor() const {
    if (!target_.is_libvirt()) {
      end_parent();
    }
  }

  /// The parent is gone, or has handed over.
  int repay() {
    const auto give_up = Clock::now() + kPatience;
    const auto late = target_.is_libvirt() && !stood_still_ ? kLateSuspend : milliseconds(0);
    auto not_yet_running = Clock::now();
    while (Clock::now() < give_up) {
      const Seen seen = look([] {});
      if (seen == Seen::resumed || seen == Seen::over ||
          (seen == Seen::running && Clock::now() >= not_yet_running + late)) {
        return 0;
      }
      if (seen == Seen::unknown) {
        not_yet_running = Clock::now();
        if (not_yet_running >= due_) {
          free_monitor();
        }
      }
      std::this_thread::sleep_for(kLookAgain);
    }
    return 1;
  }

  Target target_;
  milliseconds limit_;
  std::unique_ptr<Domain> domain_;  ///< libvirt only
  introspect::UniqueFd lock_;       ///< of a pause, from 'P' to 'R'
  bool owed_ = false;
  bool stood_still_ = false;  ///< the pause owed took effect: it cannot come late
  Clock::time_point due_;     ///< end of the limit, while owed
};

}  // namespace

int run_guardian(int argc, char** argv) {
  constexpr int kUsage = 2;
  int type = 0;
  socklen_t size = sizeof type;
  if (argc != 6 || getsockopt(kGuardianSocket, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    return kUsage;
  }
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    std::signal(signal, SIG_IGN);
  }
  const std::string_view limit(argv[2]);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(limit.data(), limit.data() + limit.size(), value);
  constexpr std::int64_t kMaxLimit = 24 * 3'600'000;
  if (error != std::errc() || end != limit.data() + limit.size() || value < 1 ||
      value > kMaxLimit) {
    return kUsage;
  }
  Target target;
  target.uri = argv[3];
  target.domain = argv[4];
  target.qmp = argv[5];
  return Watch(std::move(target), milliseconds(value)).run();
}

}  // namespace vpatch
