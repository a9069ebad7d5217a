// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_scenarios.h"

#include <fmt/format.h>

namespace vpatch::bench {
namespace {

using std::chrono::seconds;

// Commands for the target module's control file, in $c; wait_for waits 20 s for a word in its
// state.
const std::string kTarget =
    "c=/sys/kernel/vpatch_target/control; s=/sys/kernel/vpatch_target/state; "
    "wait_for() { n=0; until grep -q $1 $s; do n=$((n + 1)); [ $n -lt 200 ] || exit 1; "
    "sleep 0.1; done; }; ";
const std::string kRelease = kTarget + "echo release >$c; ";

constexpr Bars kNoPause{.no_pause = true};

Scenario idle() {
  return {.id = "S1",
          .patch = "vpatch_demo_v1",
          .patching = {.no_slower = true, .no_pause = true},
          .unpatching = {.no_slower = true, .no_pause = true},
          .note = "idle"};
}

Scenario loaded(std::string id, std::string load, Bars patching, std::string note) {
  return {.id = std::move(id),
          .patch = "vpatch_demo_v1",
          .load = std::move(load),
          .patching = patching,
          .unpatching = {.no_pause = patching.no_pause},
          .note = std::move(note)};
}

Scenario asleep(std::string id, std::string begin, std::string turn, std::string note) {
  return {.id = std::move(id),
          .patch = "vpatch_target_lp",
          .begin = std::move(begin),
          .turn = std::move(turn),
          .let_go = kRelease,
          .stock_waits = true,
          .limit = seconds(40),
          .assist = {"--signal-after", "20ms"},
          .patching = {.ratio = 150, .no_pause = true},
          .unpatching = kNoPause,
          .note = std::move(note)};
}

/// Writers that go in again after livepatch's signal: each transition meets all of them.
Scenario tasks_asleep() {
  constexpr const char* kEnter =
      "grep -q sleeping=8 $s || { echo release >$c; for i in 1 2 3 4 5 6 7 8; do "
      "(echo sleep >$c) </dev/null >/dev/null 2>&1 & done; "
      "wait_for sleeping=8; }";
  return asleep("S4", kTarget + kEnter, kTarget + kEnter, "8 tasks asleep in a changed function");
}

Scenario kthread_asleep() {
  const std::string nap = kRelease + "echo thread nap >$c; wait_for sleeping=1";
  return asleep("S5", nap, nap, "a kthread asleep in a changed function");
}

Scenario polling(const std::string& kernel) {
  // From 6.4 on cond_resched() itself lets livepatch move the thread.
  const std::string command = kernel == "6.1" ? "poll" : "poll-schedule";
  // The kernel ends an unpatching only when such a thread has slept: it is let go a second later.
  const std::string stop_watcher =
      "[ ! -e /run/watcher ] || kill $(cat /run/watcher) 2>/dev/null; rm -f /run/watcher; ";
  const std::string release_later =
      "(p=/sys/kernel/livepatch/vpatch_demo_v1/transition; "
      "until [ \"$(cat $p)\" = 1 ]; do sleep 0.1; done; sleep 1; echo release >$c) "
      "</dev/null >/dev/null 2>&1 & echo $! >/run/watcher";
  return {.id = "S6",
          .patch = "vpatch_demo_v1",
          .begin = stop_watcher + kRelease + fmt::format("echo thread {} 1 >$c", command),
          .turn = kTarget + release_later,
          .let_go = stop_watcher + kRelease,
          .stock_waits = true,
          .limit = seconds(30),
          .patching = {.longest_ms = 100},
          .note = "a kthread that polls on CPU 1 and never sleeps",
          .unpatching_note = "until it is let go, after 1 s"};
}

Scenario blocked() {
  return {.id = "S7",
          .patch = "vpatch_target_lp",
          .begin = kRelease + "echo thread block >$c; wait_for blocked=1",
          .let_go = kRelease,
          .stalls = true,
          .note = "a kthread blocked in a changed function"};
}

/// Hogs as they come make one transition of an emulated 6.12 guest take a minute: see
/// docs/benchmarks.md.
std::string hogs(const std::string& kernel) {
  return kernel == "6.1" ? "hogs" : "hogs yield";
}

Scenario replacing(const std::string& kernel) {
  Scenario scenario =
      loaded("S8", hogs(kernel), {}, "replaces an older patch, under the load of S2");
  scenario.patch = "vpatch_demo_v2";
  scenario.base = "vpatch_demo_v1";
  return scenario;
}

}  // namespace

std::vector<Scenario> scenarios_of(const std::string& kernel) {
  return {idle(),
          loaded("S2", hogs(kernel), {.ratio = 40, .no_pause = true}, "busy CPUs and a fork loop"),
          loaded("S3", "storm 1000", {.ratio = 40, .no_pause = true},
                 "1,000 tasks in short system calls"),
          tasks_asleep(),
          kthread_asleep(),
          polling(kernel),
          blocked(),
          replacing(kernel),
          loaded("S9", "readers /proc/cmdline", {.ratio = 40},
                 "the changed function is called all the time")};
}

}  // namespace vpatch::bench
