// SPDX-License-Identifier: Apache-2.0
// Each kind of task that holds a transition up, and what the host does about it, as the report and
// the guest itself show it.
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/assist_fixture.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

/// The switched task of that name, or null.
const boost::json::object* switched(const Answer& answer, const std::string& name) {
  for (const auto& task : answer.transition().at("switched").as_array()) {
    if (text_of(task.as_object(), "name") == name) {
      return &task.as_object();
    }
  }
  return nullptr;
}

class AssistSleepers : public AssistTest {};

TEST_F(AssistSleepers, UserProcessIsSignalledOnceItsTimeIsOver) {
  start_sleeper();
  const Answer answer = apply({"--timeout", "10", "--signal-after", "50ms"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_GE(answer.number("signals"), 1) << answer;
  EXPECT_GE(answer.number("lasted_us"), 50'000) << answer;
  EXPECT_GE(std::stoi(shown("signals")), 1);
  // It went out of the kernel and back in, into the new function.
  EXPECT_TRUE(eventually([] {
    return !vm().guest("cat /proc/[0-9]*/stack 2>/dev/null | grep patched_sleep || true").empty();
  }));
}

TEST_F(AssistSleepers, KernelThreadIsWokenUp) {
  target("thread nap");
  ASSERT_TRUE(target_state_is("sleeping=1 blocked=0 spinning=0"));
  const Answer answer = apply({"--timeout", "10"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_GE(answer.number("signals"), 1) << answer;
  EXPECT_TRUE(target_state_is("sleeping=0 blocked=0 spinning=0"));
}

TEST_F(AssistSleepers, NobodyIsAskedWithAssistOff) {
  start_sleeper();
  const Answer answer = apply({"--assist", "off", "--signal-after", "0", "--timeout", "2"});
  EXPECT_EQ(answer.exit_code, 4) << answer;
  for (const char* counter : {"retries", "rescheds", "signals", "pauses"}) {
    EXPECT_EQ(answer.number(counter), 0) << counter << "\n" << answer;
  }
  EXPECT_EQ(shown("retries"), "0");
  EXPECT_EQ(shown("signals"), "0");
  EXPECT_EQ(vm().fingerprint(), before_);
}

TEST_F(AssistSleepers, UninterruptibleIsNamedWhenApplyGoesBack) {
  target("thread block");
  ASSERT_TRUE(target_state_is("sleeping=0 blocked=1 spinning=0"));
  const Answer answer = apply({"--timeout", "2", "--on-stall", "revert"});
  EXPECT_EQ(answer.exit_code, 4) << answer;
  const auto& blockers = answer.report.at("blockers").as_object();
  ASSERT_EQ(number_of(blockers, "count"), 1) << answer;
  const auto& task = blockers.at("tasks").as_array().at(0).as_object();
  EXPECT_EQ(text_of(task, "name"), "vpt_block");
  EXPECT_EQ(text_of(task, "reason"), "on-stack");
  EXPECT_THAT(text_of(task, "why"), HasSubstr("vpatch_target_block"));
  EXPECT_THAT(boost::json::serialize(task.at("stack")), HasSubstr("vpatch_target_block"));
  EXPECT_EQ(answer.number("pauses"), 0) << answer;
  EXPECT_THAT(shown("blockers"), HasSubstr("vpt_block"));
  EXPECT_EQ(vm().fingerprint(), before_);
}

TEST_F(AssistSleepers, UninterruptibleIsNamedInTheGuestWhileApplyWaits) {
  target("thread block");
  ASSERT_TRUE(target_state_is("sleeping=0 blocked=1 spinning=0"));
  in_background(
      "until grep -q patching /sys/kernel/vpatch/state && "
      "grep vpt_block /sys/kernel/vpatch/blockers >/tmp/seen; do :; done; "
      "cat /sys/kernel/vpatch/state /sys/kernel/vpatch/pending >>/tmp/seen");
  const Answer answer = apply({"--timeout", "2", "--on-stall", "wait"});
  EXPECT_EQ(answer.exit_code, 5) << answer;
  EXPECT_TRUE(eventually([] { return vm().guest("wc -l </tmp/seen") == "3\n"; }));
  EXPECT_THAT(vm().guest("cat /tmp/seen; rm /tmp/seen"),
              testing::AllOf(HasSubstr("vpatch_target_block"), HasSubstr("\npatching\n1\n")));
  target("release");
  const Answer again = apply({});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(phase(), "patched");
}

class AssistPollers : public AssistTest {
 protected:
  /// A kernel thread on CPU 1 that never sleeps, in a function that is not changed. From 6.4 on
  /// the one that calls cond_resched() moves itself.
  static void start_poller() {
    target(kernel() == "6.1" ? "thread poll 1" : "thread poll-schedule 1");
  }
};

TEST_F(AssistPollers, MoveWithoutTheKernelsNextSecond) {
  start_poller();
  const Answer answer = apply({"--timeout", "10"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_GE(answer.number("retries") + answer.transition().at("switched").as_array().size(), 1)
      << answer;
  EXPECT_LT(answer.number("lasted_us"), 10'000'000) << answer;
}

/// A pause may come at an instant at which nobody may be moved: there is more than one try, and
/// a new poller for each, because 6.1 ends no unpatch under one that runs.
TEST_F(AssistPollers, AreSwitchedInOnePause) {
  constexpr int kTries = 6;
  Answer answer;
  for (int tries = 1;; ++tries) {
    start_poller();
    answer = apply({"--timeout", "30", "--switch-after", "0", "--max-pause", "500ms"});
    ASSERT_EQ(answer.exit_code, 0) << answer;
    if (answer.number("pauses") == 1 && switched(answer, "vpt_poll") != nullptr) {
      break;
    }
    ASSERT_LT(tries, kTries) << answer;
    target("release");
    const Answer reverted = revert({});
    ASSERT_EQ(reverted.exit_code, 0) << reverted;
  }
  EXPECT_THAT(boost::json::serialize(switched(answer, "vpt_poll")->at("stack")),
              HasSubstr("target_poll"))
      << answer;
  EXPECT_GT(answer.number("paused_us"), 0) << answer;
  EXPECT_EQ(shown("switched"), "1");
  EXPECT_EQ(shown("last_pause_us"), std::to_string(answer.number("paused_us")));
  EXPECT_EQ(shown("last_result"), "patched");
}

TEST_F(AssistPollers, AreNeverPausedForWithAssistKick) {
  start_poller();
  const Answer answer = apply({"--timeout", "10", "--assist", "kick", "--switch-after", "0"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_EQ(answer.number("pauses"), 0) << answer;
  EXPECT_TRUE(answer.transition().at("switched").as_array().empty()) << answer;
  EXPECT_GE(answer.number("retries"), 1) << answer;
}

/// All tasks have moved, and the kernel waits for one that does not schedule: nothing to be hacked.
TEST_F(AssistPollers, HoldTheKernelsLastStageOfAnUnpatch) {
  ASSERT_EQ(apply({}).exit_code, 0);
  target("thread poll 1");  // cond_resched() is no quiescent state of RCU tasks
  const Answer answer = revert({"--timeout", "3"});
  EXPECT_EQ(answer.exit_code, 5) << answer;
  EXPECT_THAT(text_of(answer.report, "summary"), HasSubstr("RCU tasks")) << answer;
  target("release");
  const Answer again = revert({});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(vm().fingerprint(), before_);
}

class AssistWithoutHelp : public AssistTest {
 protected:
  static void expect_applied_at_the_kernels_pace(const Answer& answer, const std::string& hint) {
    EXPECT_EQ(answer.exit_code, 0) << answer;
    EXPECT_TRUE(answer.found("no-guest-module")) << answer;
    EXPECT_THAT(answer.hint_of("no-guest-module"), HasSubstr(hint)) << answer;
    EXPECT_EQ(answer.number("retries") + answer.number("signals"), 0) << answer;
  }
};

TEST_F(AssistWithoutHelp, ApplyWorksWithoutTheGuestModule) {
  vm().guest("/sbin/rmmod vpatch_guest");
  const Answer answer = apply({});
  vm().guest("/sbin/insmod /lib/modules/vpatch/vpatch_guest.ko");
  expect_applied_at_the_kernels_pace(answer, "vpatch_guest");
}

TEST_F(AssistWithoutHelp, ApplyWorksWhereTheGuestWantsNoHelp) {
  const std::string parameter = "/sys/module/vpatch_guest/parameters/assist";
  vm().guest("echo 0 >" + parameter);
  const Answer answer = apply({});
  EXPECT_EQ(shown("assist"), "0");
  EXPECT_EQ(shown("retries"), "0");
  vm().guest("echo 1 >" + parameter);
  expect_applied_at_the_kernels_pace(answer, parameter);
}

class AssistWhenClear : public AssistTest {};

TEST_F(AssistWhenClear, LoadsOnceTheSleeperHasLeft) {
  start_sleeper();
  // The file is there: apply waits, or is about to.
  in_background(
      "until [ -e /run/vpatch-delivery/vpatch_target_lp.ko ]; do :; done; sleep 1; "
      "echo release >/sys/kernel/vpatch_target/control");
  const Answer answer = apply({"--when-clear=30s"});
  ASSERT_EQ(answer.exit_code, 0) << answer;
  EXPECT_TRUE(answer.found("would-block")) << answer;
  EXPECT_EQ(answer.number("signals"), 0) << answer;
  EXPECT_GE(number_of(answer.report, "elapsed_ms"), 1000) << answer;
}

TEST_F(AssistWhenClear, RefusesWhenTheSleeperStays) {
  start_sleeper();
  const Answer answer = apply({"--when-clear=1s"});
  EXPECT_EQ(answer.exit_code, 3) << answer;
  EXPECT_THAT(text_of(answer.report, "summary"), HasSubstr("vpatch_target_sleep")) << answer;
  EXPECT_EQ(vm().fingerprint(), before_);
}

class AssistLosses : public AssistTest {
 protected:
  const std::vector<std::string> held_ = {"--signal-after", "1h", "--timeout", "60"};
};

TEST_F(AssistLosses, ModuleMayBeUnloadedAndLoadedInMidTransition) {
  start_sleeper();
  in_background(
      "until grep patching /sys/kernel/vpatch/state; do :; done; sleep 1; "
      "/sbin/rmmod vpatch_guest; sleep 1; /sbin/insmod /lib/modules/vpatch/vpatch_guest.ko; "
      "cat /sys/kernel/vpatch/state >/tmp/seen; echo release >/sys/kernel/vpatch_target/control");
  const Answer answer = apply(held_);
  EXPECT_EQ(answer.exit_code, 0) << answer;
  EXPECT_TRUE(answer.found("guest-module-lost")) << answer;
  EXPECT_EQ(vm().guest("cat /tmp/seen; rm /tmp/seen"), "patching\n");
  EXPECT_EQ(shown("last_result"), "patched");
}

TEST_F(AssistLosses, HostMayVanish) {
  start_sleeper();
  std::vector<std::string> arguments = held_;
  arguments.push_back(patch_);
  Process process(vm().vpatch_argv("apply", arguments));
  ASSERT_TRUE(eventually(
      [&] { return process.err_so_far().find("loaded vpatch_target_lp") != std::string::npos; }));
  process.signal(SIGKILL);
  EXPECT_EQ(process.wait().exit_code, -SIGKILL);
  EXPECT_EQ(shown("state"), "patching");
  EXPECT_EQ(run_state(vm()), "running");
  target("release");
  EXPECT_TRUE(eventually([] { return shown("last_result") == "patched"; }));
  EXPECT_TRUE(eventually([] {
    const std::string wakeups = shown("wakeups");
    return vm().guest("sleep 0.3; cat /sys/kernel/vpatch/wakeups") == wakeups + "\n";
  })) << "the module does not come to rest";
}

}  // namespace
}  // namespace vpatch::test
