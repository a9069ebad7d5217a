// SPDX-License-Identifier: Apache-2.0
// kill -9 of vpatch at any instant of an assisted transition, and just in its pauses: the guest
// runs on, and the next command carries on from what it finds.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/vm/assist_fixture.h"

namespace vpatch::test {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// The thread of a QEMU that runs the guest's busy vCPU, as /proc shows it: the monitor is not
/// asked.
class VcpuThread {
 public:
  /// The one that uses most time now.
  explicit VcpuThread(pid_t qemu) {
    const std::string tasks = fmt::format("/proc/{}/task", qemu);
    std::map<std::string, std::uint64_t> before;
    for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
      before[entry.path()] = time_of(entry.path());
    }
    std::this_thread::sleep_for(milliseconds(100));
    std::uint64_t most = 0;
    for (const auto& [path, time] : before) {
      if (const std::uint64_t used = time_of(path) - time; used > most) {
        most = used;
        path_ = path;
      }
    }
    if (path_.empty()) {
      throw std::runtime_error("no thread of the QEMU runs");
    }
  }

  bool sleeps() const {
    const std::string stat = read_file(path_ + "/stat");
    const auto end = stat.rfind(')');
    return end != std::string::npos && stat.size() > end + 2 && stat[end + 2] == 'S';
  }
  /// Sleeps, and goes on doing so for `time`.
  bool stands_still(milliseconds time) const {
    const std::uint64_t before = time_of(path_);
    std::this_thread::sleep_for(time);
    return sleeps() && time_of(path_) == before;
  }

 private:
  /// Nanoseconds on a CPU.
  static std::uint64_t time_of(const std::string& task) {
    const std::string text = read_file(task + "/schedstat");
    return text.empty() ? 0 : std::stoull(text);
  }

  std::string path_;
};

class AssistKill : public AssistTest {
 protected:
  static std::vector<std::string> arguments(const std::string& verb) {
    const std::string patch = "vpatch_target_lp";
    std::vector<std::string> words = {"--switch-after", "0", "--max-pause", "200ms"};
    words.push_back(verb == "apply" ? module_path(patch) : patch);
    return words;
  }

  static microseconds time_of(const std::string& verb) {
    const auto start = steady_clock::now();
    const ProcessResult result = vm().vpatch(verb, arguments(verb));
    EXPECT_EQ(result.exit_code, 0) << result;
    return duration_cast<microseconds>(steady_clock::now() - start);
  }

  /// How long it takes until the monitor says that the guest runs.
  static microseconds time_until_it_runs(steady_clock::time_point since) {
    EXPECT_TRUE(eventually([] { return run_state(vm()) == "running"; }, std::chrono::seconds(30)));
    return duration_cast<microseconds>(steady_clock::now() - since);
  }

  static void kill_at(Process& process, microseconds instant) {
    const auto due = steady_clock::now() + instant;
    while (process.running() && steady_clock::now() < due) {
      std::this_thread::sleep_for(microseconds(200));
    }
    process.signal(SIGKILL);
  }

  /// Halts the process where the guest seems to stand still, and kills it if it does: the instant
  /// is one at which kill -9 alone might have come. False when the process ended before that.
  static bool kill_in_pause(Process& process, const VcpuThread& vcpu) {
    while (process.running()) {
      if (!vcpu.sleeps()) {
        continue;
      }
      process.signal(SIGSTOP);
      if (vcpu.stands_still(milliseconds(20))) {
        process.signal(SIGKILL);
        return true;
      }
      process.signal(SIGCONT);
    }
    return false;
  }

  /// What an operator does then.
  static void expect_it_can_be_carried_on(const std::string& verb) {
    const ProcessResult status = vm().vpatch("status");
    EXPECT_EQ(status.exit_code, 0) << status;
    const ProcessResult again = vm().vpatch(verb, arguments(verb));
    EXPECT_EQ(again.exit_code, 0) << again;
    EXPECT_EQ(phase(), verb == "apply" ? "patched" : "none");
  }
};

TEST_F(AssistKill, GuestRunsOnAndTheNextCommandCarriesOn) {
  const int kills = count_from_environment("VPATCH_KILLS", backend() == "libvirt" ? 4 : 15);
  const auto seed = static_cast<unsigned>(
      count_from_environment("VPATCH_SEED", static_cast<int>(std::random_device()() >> 2) + 1));
  fmt::print("kills on {} {}: {}, VPATCH_SEED={}\n", backend(), kernel(), kills, seed);
  std::mt19937 random(seed);
  target("thread poll-schedule 1");
  const VcpuThread vcpu(vm().pid());
  const std::array<std::string, 2> verbs = {"apply", "revert"};
  const std::array<microseconds, 2> whole = {time_of("apply"), time_of("revert")};
  std::vector<microseconds> until_running;
  int in_pause = 0;
  int too_late = 0;
  for (int kill = 0; kill < kills; ++kill) {
    SCOPED_TRACE(fmt::format("kill {} of {}", kill, kills));
    const std::string& verb = verbs.at(static_cast<std::size_t>(kill % 2));
    Process process(vm().vpatch_argv(verb, arguments(verb)));
    if ((kill / 2) % 2 == 0) {
      kill_at(process, microseconds(std::uniform_int_distribution<microseconds::rep>(
                           0, whole.at(static_cast<std::size_t>(kill % 2)).count())(random)));
    } else if (kill_in_pause(process, vcpu)) {
      ++in_pause;
    }
    const auto killed = steady_clock::now();
    too_late += process.wait().exit_code == -SIGKILL ? 0 : 1;
    until_running.push_back(time_until_it_runs(killed));
    expect_it_can_be_carried_on(verb);
  }
  std::ranges::sort(until_running);
  const auto slow = std::ranges::count_if(
      until_running, [](microseconds time) { return time > milliseconds(200); });
  fmt::print(
      "kills on {} {}: {} in a pause, {} after the end; the guest ran after {} us in the middle, "
      "{} us "
      "at most, {} times after more than 200 ms\n",
      backend(), kernel(), in_pause, too_late, until_running.at(until_running.size() / 2).count(),
      until_running.back().count(), slow);
  EXPECT_LT(until_running.back(), std::chrono::seconds(5));
  EXPECT_GT(in_pause, 0) << "no kill fell into a pause";
  EXPECT_EQ(vm().guest("ls -d /run/vpatch-delivery 2>/dev/null || true"), "");
}

}  // namespace
}  // namespace vpatch::test
