// SPDX-License-Identifier: Apache-2.0
// The promise of a livepatch transition, while the host forces it along: no task runs an old
// function that calls a new one. vpatch_pair counts each time that it does.
#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "qmp/guest_agent.h"
#include "tests/vm/assist_fixture.h"
#include "vmm-agent/assist/transition_assist.h"
#include "vmm-agent/guest/agent_guest.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch::test {
namespace {

using std::chrono::milliseconds;

constexpr const char* kPatch = "vpatch_pair_lp";

template <class T, class E>
T checked(std::expected<T, E> result) {
  if (!result) {
    throw std::runtime_error(result.error().what);
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

std::string who_holds_up(const AssistedEnd& end) {
  return end.pending.first.empty() ? end.stage : describe(end.pending.first.front());
}

/// Moves whoever runs, wherever he is.
SwitchProof skip_the_stack_check(const PausedGuest& guest, const ExpectedTransition& expected) {
  SwitchProof proof;
  const introspect::LivepatchState& now = guest.livepatch;
  if (!now.transition || now.target_state != expected.target_state || now.busy()) {
    proof.why_none = "no transition to move tasks in";
    return proof;
  }
  for (std::size_t index = 0; index < guest.look.tasks.size(); ++index) {
    const introspect::Task& task = guest.look.tasks[index].task;
    if (task.on_cpu && task.patch_pending && task.patch_state &&
        *task.patch_state == 1 - expected.target_state) {
      proof.tasks.push_back(index);
    }
  }
  return proof;
}

/// Loads the pair's livepatch and takes it away again, with no more of vpatch than what helps the
/// transition: more rounds in the time.
class PairRounds {
 public:
  PairRounds(const TestVm& vm, Prover prove)
      : target_(vm.target()),
        domain_(checked(open_domain(target_, options_))),
        view_(checked(GuestView::open(*domain_, BootCache(cache_folder()), options_))),
        guest_(*checked(domain_->agent(options_))),
        file_(checked(read_livepatch(module_path(kPatch)))),
        prove_(std::move(prove)) {}

  void round() {
    moved_.clear();
    checked(guest_.deliver(
        file_.name, file_.bytes, file_.sha256, [](std::size_t, std::size_t) {}, options_));
    transition([this] { return guest_.load(kPatch, options_); });
    transition([this] { return guest_.set_enabled(kPatch, false, options_); });
    EXPECT_TRUE(eventually([this] { return checked(guest_.unload(kPatch, options_)).ok; }));
  }

  /// Calls of the inner function so far that met the other version. Through this object's own
  /// connection: the VM takes one at a time.
  long violations() {
    qmp::GuestAgent agent(*checked(domain_->agent(options_)));
    return std::stol(checked(agent.read_file("/sys/kernel/vpatch_pair/violations", 64, options_)));
  }
  /// Whom the host has moved in the last round, and where they were.
  const std::string& moved() const { return moved_; }
  std::size_t switched() const { return switched_; }
  std::uint32_t pauses() const { return pauses_; }
  std::chrono::microseconds longest_pause() const { return longest_pause_; }

 private:
  void transition(const std::function<Result<ToolResult>()>& change) {
    TransitionAssist assist(
        {.view = view_,
         .domain = *domain_,
         .target = target_,
         .options = {.switch_after = milliseconds(0), .max_pause = milliseconds(500)},
         .prove = prove_,
         .guardian_program = VPATCH_PROGRAM});
    assist.begin(kPatch, {});
    const ToolResult said = checked(change());
    ASSERT_TRUE(said.ok) << said.message;
    const AssistedEnd end = checked(assist.await(std::chrono::seconds(60), {}, [](auto) {}));
    ASSERT_EQ(end.how, AssistedEnd::How::ended) << who_holds_up(end);
    const TransitionRecord record = assist.finish();
    switched_ += record.switched.size();
    for (const SwitchedTask& task : record.switched) {
      moved_ += fmt::format("{} ({}) in {}\n", task.name, task.tid, fmt::join(task.stack, " < "));
    }
    pauses_ += record.pauses;
    longest_pause_ = std::max(longest_pause_, record.longest_pause);
  }

  const qmp::CallOptions options_{std::chrono::seconds(60), {}};
  Target target_;
  std::unique_ptr<Domain> domain_;
  GuestView view_;
  AgentGuest guest_;
  LivepatchFile file_;
  Prover prove_;
  std::string moved_;
  std::size_t switched_ = 0;
  std::uint32_t pauses_ = 0;
  std::chrono::microseconds longest_pause_{};
};

class AssistPair : public AssistTest {
 protected:
  /// A worker on each CPU and two processes, all of which call the pair of functions all the time.
  void SetUp() override {
    AssistTest::SetUp();
    vm().guest(
        "/sbin/insmod /lib/modules/vpatch/vpatch_pair.ko && "
        "echo start >/sys/kernel/vpatch_pair/control");
    for (int reader = 0; reader < 2; ++reader) {
      in_background(
          "while [ -e /sys/kernel/vpatch_pair ]; do read v </sys/kernel/vpatch_pair/call; done");
    }
  }
  void TearDown() override {
    vm().guest("echo 1 >/sys/module/vpatch_guest/parameters/assist; /sbin/rmmod vpatch_pair");
    AssistTest::TearDown();
  }

  static long count(const std::string& file) {
    return std::stol(vm().guest("cat /sys/kernel/vpatch_pair/" + file));
  }
  /// Without the guest module's help only a pause moves a busy task before the kernel's next
  /// second.
  static void let_guest_help(bool help) {
    vm().guest(fmt::format("echo {} >/sys/module/vpatch_guest/parameters/assist", help ? 1 : 0));
  }

  struct Totals {
    std::size_t switched = 0;
    std::uint32_t pauses = 0;
    std::chrono::microseconds longest_pause{};
  };

  static void run_rounds(int rounds, const Prover& prove, Totals& totals) {
    PairRounds pair(vm(), prove);
    for (int round = 0; round < rounds; ++round) {
      const long before = pair.violations();
      ASSERT_NO_FATAL_FAILURE(pair.round()) << "round " << round;
      if (const long after = pair.violations(); after != before) {
        fmt::print("round {}: {} violations; moved in it:\n{}", round, after - before,
                   pair.moved());
      }
    }
    totals.switched += pair.switched();
    totals.pauses += pair.pauses();
    totals.longest_pause = std::max(totals.longest_pause, pair.longest_pause());
  }

  static void print(const std::string& name, int rounds, const Totals& totals) {
    fmt::print(
        "pair on {}, {}: {} rounds, {} pauses (longest {} us), {} tasks switched, {} calls, {} "
        "violations\n",
        kernel(), name, rounds, totals.pauses, totals.longest_pause.count(), totals.switched,
        count("calls"), count("violations"));
  }
};

TEST_F(AssistPair, NoTaskMeetsTheOtherVersionWhileTasksAreSwitched) {
  const int rounds = count_from_environment("VPATCH_PAIR_ROUNDS", 8);
  const long calls = count("calls");
  Totals totals;
  ASSERT_NO_FATAL_FAILURE(run_rounds(rounds - rounds / 2, prove_switch, totals));
  let_guest_help(false);
  ASSERT_NO_FATAL_FAILURE(run_rounds(rounds / 2, prove_switch, totals));
  print("proved", rounds, totals);
  EXPECT_EQ(count("violations"), 0);
  EXPECT_GT(count("calls"), calls);
  EXPECT_GT(totals.switched, 0) << "nothing was put to the proof";
}

/// What the test above is worth: it sees the harm that a missing stack check does.
TEST_F(AssistPair, ViolationsShowWithoutTheStackCheck) {
  constexpr int kMost = 20;
  Totals totals;
  int round = 0;
  while (count("violations") == 0 && round < kMost) {
    ASSERT_NO_FATAL_FAILURE(run_rounds(1, skip_the_stack_check, totals));
    ++round;
  }
  print("without the stack check", round, totals);
  EXPECT_GT(totals.switched, 0);
  EXPECT_GT(count("violations"), 0);
}

}  // namespace
}  // namespace vpatch::test
