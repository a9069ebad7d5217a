// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/health_verdict.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kBoot = "5bfd0a2c-0000-4000-8000-000000000001";

introspect::LogRecord record(std::uint64_t sequence, std::string text, std::uint8_t facility = 0) {
  return {.sequence = sequence,
          .time_ns = 1'500'000'000,
          .facility = facility,
          .level = 4,
          .text = std::move(text)};
}

/// Of a healthy guest that is held against a mark; each test changes one thing.
class HealthVerdictTest : public testing::Test {
 protected:
  HealthVerdictTest() {
    signs.name = "web01";
    signs.domain = RunState::running;
    signs.boot_id = kBoot;
    signs.ticking = true;
    signs.agent.emplace();
    signs.memory.emplace(MemorySigns{.release = "6.1.0-test", .taint = 0x200});
    memory().log->next_sequence = 12;
    memory().log->records = {record(10, "usb 1-1: new device"), record(11, "eth0: link is up")};
    since = {.boot_id = kBoot, .log_sequence = 10, .taint = 0x200};
  }

  MemorySigns& memory() { return (signs.memory ? *signs.memory : signs.memory.emplace()).value(); }
  void run_command(Result<CommandEnd> end) {
    signs.command_given = true;
    signs.command = std::move(end);
  }

  HealthReport judged() const { return judge_health(signs, since); }
  Verdict verdict() const { return judged().health; }
  Verdict of(const std::string& id) const {
    const HealthReport report = judged();
    const auto found = std::ranges::find(report.checks, id, &HealthCheck::id);
    EXPECT_NE(found, report.checks.end()) << id;
    return found == report.checks.end() ? Verdict::inconclusive : found->health;
  }

  HealthSigns signs;
  HealthSince since;
};

TEST_F(HealthVerdictTest, PassesWhatIsWellInEveryRespect) {
  const HealthReport report = judged();
  EXPECT_EQ(report.health, Verdict::pass);
  EXPECT_EQ(report.text, "web01 is healthy");
  EXPECT_EQ(report.boot_id, kBoot);
  EXPECT_EQ(report.log_sequence, 12U);
  EXPECT_EQ(report.taint, 0x200U);
  EXPECT_EQ(report.release, "6.1.0-test");
  EXPECT_THAT(report.kernel_log, IsEmpty());
  EXPECT_FALSE(report.command);
}

TEST_F(HealthVerdictTest, IsInconclusiveWithoutALook) {
  const HealthReport report = judge_health({.name = "web01"}, {});
  EXPECT_EQ(report.health, Verdict::inconclusive);
  EXPECT_EQ(report.taint, std::nullopt);
  EXPECT_EQ(report.log_sequence, std::nullopt);
}

TEST_F(HealthVerdictTest, FailsACrashedDomain) {
  signs.domain = RunState::crashed;
  EXPECT_EQ(verdict(), Verdict::fail);
  EXPECT_THAT(judged().text, HasSubstr("crashed"));
}

TEST_F(HealthVerdictTest, IsInconclusiveOfADomainThatDoesNotRun) {
  for (const RunState state :
       {RunState::paused, RunState::held, RunState::shut_off, RunState::other}) {
    signs.domain = state;
    EXPECT_EQ(verdict(), Verdict::inconclusive) << to_string(state);
    EXPECT_THAT(judged().text, HasSubstr(std::string(to_string(state))));
  }
  signs.domain = fail(Outcome::unreachable, "no domain named web01");
  EXPECT_EQ(judged().text, "web01: no domain named web01");
  EXPECT_EQ(verdict(), Verdict::inconclusive);
}

TEST_F(HealthVerdictTest, IsInconclusiveWithoutGuestMemory) {
  signs.memory = fail(Outcome::unreachable, "no access");
  EXPECT_EQ(verdict(), Verdict::inconclusive);
  signs.memory.reset();
  EXPECT_EQ(verdict(), Verdict::inconclusive);
}

TEST_F(HealthVerdictTest, FailsAPanicInMemory) {
  memory().panicked = true;
  EXPECT_EQ(verdict(), Verdict::fail);
  EXPECT_EQ(of("panic"), Verdict::fail);
}

TEST_F(HealthVerdictTest, FailsAPanicInTheLogWithoutAMark) {
  since = {};
  memory().log->records.push_back(record(12, "Kernel panic - not syncing: sysrq"));
  EXPECT_EQ(of("panic"), Verdict::fail);
  EXPECT_EQ(of("log"), Verdict::pass);
}

TEST_F(HealthVerdictTest, FailsTroubleInTheLogAndShowsItsLines) {
  memory().log->records.push_back(record(12, "------------[ cut here ]------------"));
  memory().log->records.push_back(record(13, "WARNING: CPU: 0 PID: 7 at x\nmore"));
  const HealthReport report = judged();
  EXPECT_EQ(report.health, Verdict::fail);
  EXPECT_THAT(report.text, HasSubstr("[ cut here ]"));
  EXPECT_THAT(report.kernel_log,
              ElementsAre("[    1.500000] ------------[ cut here ]------------",
                          "[    1.500000] WARNING: CPU: 0 PID: 7 at x", "[    1.500000] more"));
}

TEST_F(HealthVerdictTest, FailsLockupsInTheLog) {
  for (const char* text : {"watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
                           "INFO: task sync:81 blocked for more than 120 seconds.",
                           "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"}) {
    memory().log->records = {record(10, text)};
    EXPECT_EQ(of("log"), Verdict::fail) << text;
  }
}

TEST_F(HealthVerdictTest, PassesWhatProgramsWriteToTheLog) {
  memory().log->records.push_back(record(12, "BUG: of a program", 1));
  memory().log->records.push_back(record(13, "Kernel panic - not really", 1));
  EXPECT_EQ(verdict(), Verdict::pass);
}

TEST_F(HealthVerdictTest, DoesNotJudgeTheLogWithoutAMark) {
  since.log_sequence.reset();
  memory().log->records.push_back(record(12, "BUG: of long ago"));
  memory().log->lost = 5;
  EXPECT_EQ(verdict(), Verdict::pass);
  EXPECT_THAT(judged().kernel_log, IsEmpty());
}

TEST_F(HealthVerdictTest, IsInconclusiveOfALogThatIsNotWhole) {
  memory().log->lost = 1;
  EXPECT_EQ(of("log"), Verdict::inconclusive);
  EXPECT_EQ(verdict(), Verdict::inconclusive);
  memory().log->records.push_back(record(12, "Oops: 0002"));
  EXPECT_EQ(verdict(), Verdict::fail);
  memory().log = fail(Outcome::unreachable, "torn");
  EXPECT_EQ(verdict(), Verdict::inconclusive);
  EXPECT_EQ(judged().log_sequence, std::nullopt);
}

TEST_F(HealthVerdictTest, FailsNewTaintAlone) {
  memory().taint = 0x280;
  EXPECT_EQ(of("taint"), Verdict::fail);
  EXPECT_EQ(judged().text, "web01: the kernel is newly tainted (D)");
  memory().taint = 0x200 | kExpectedTaint;
  EXPECT_EQ(verdict(), Verdict::pass);
  memory().taint = 0;
  EXPECT_EQ(verdict(), Verdict::pass);
}

TEST_F(HealthVerdictTest, DoesNotJudgeTaintWithoutAMark) {
  since.taint.reset();
  memory().taint = 0x280;
  EXPECT_EQ(verdict(), Verdict::pass);
}

TEST_F(HealthVerdictTest, CountsAllOfARebootedGuest) {
  memory().rebooted = true;
  EXPECT_EQ(of("taint"), Verdict::fail) << "it was there before, but of another boot";
  memory().taint = kExpectedTaint;
  EXPECT_EQ(verdict(), Verdict::pass);
  EXPECT_EQ(judged().text, "web01 is healthy, and has rebooted since");
  since.log_sequence.reset();
  memory().log->records.push_back(record(3, "BUG: at boot"));
  EXPECT_EQ(of("log"), Verdict::fail);
}

TEST_F(HealthVerdictTest, IsInconclusiveWithoutABootId) {
  signs.boot_id.clear();
  EXPECT_EQ(of("boot"), Verdict::inconclusive);
  EXPECT_EQ(verdict(), Verdict::inconclusive);
}

TEST_F(HealthVerdictTest, FailsAClockThatStandsStill) {
  signs.ticking = false;
  EXPECT_EQ(verdict(), Verdict::fail);
  signs.ticking.reset();
  EXPECT_EQ(verdict(), Verdict::inconclusive);
}

TEST_F(HealthVerdictTest, IsInconclusiveOfASilentAgent) {
  signs.agent = fail(Outcome::unreachable, "guest-ping: no answer");
  EXPECT_EQ(verdict(), Verdict::inconclusive);
  signs.agent.reset();
  EXPECT_EQ(verdict(), Verdict::inconclusive);
}

TEST_F(HealthVerdictTest, TakesTheCommandsExitCode) {
  for (const auto& [code, health] : {std::pair(0, Verdict::pass),
                                     {1, Verdict::fail},
                                     {2, Verdict::inconclusive},
                                     {127, Verdict::inconclusive}}) {
    run_command(CommandEnd{.exit_code = code, .output = "so"});
    EXPECT_EQ(verdict(), health) << code;
    EXPECT_EQ(judged().command.value_or(CommandEnd()).output, "so");
  }
}

TEST_F(HealthVerdictTest, IsInconclusiveOfACommandWithoutAnExitCode) {
  run_command(CommandEnd{});
  EXPECT_EQ(verdict(), Verdict::inconclusive) << "a signal";
  run_command(fail(Outcome::unreachable, "no answer within 30 s"));
  EXPECT_EQ(verdict(), Verdict::inconclusive);
  EXPECT_FALSE(judged().command);
  signs.command.reset();
  EXPECT_EQ(verdict(), Verdict::inconclusive) << "it was not run";
}

TEST_F(HealthVerdictTest, IsTheGravestOfItsChecks) {
  signs.agent = fail(Outcome::unreachable, "silent");
  memory().panicked = true;
  memory().taint = 0x280;
  EXPECT_EQ(verdict(), Verdict::fail);
  EXPECT_EQ(judged().text, "web01: the guest's kernel has panicked (and 1 more)");
  EXPECT_EQ(of("agent"), Verdict::inconclusive);
}

TEST(HealthVerdict, HasAnExitCodeEach) {
  EXPECT_EQ(static_cast<int>(outcome_of(Verdict::pass)), 0);
  EXPECT_EQ(static_cast<int>(outcome_of(Verdict::fail)), 8);
  EXPECT_EQ(static_cast<int>(outcome_of(Verdict::inconclusive)), 6);
}

TEST(HasRebooted, IsAnotherBootIdOrALogThatWentBack) {
  EXPECT_FALSE(has_rebooted({}, kBoot, 5));
  EXPECT_FALSE(has_rebooted({.boot_id = kBoot, .log_sequence = 5}, kBoot, 5));
  EXPECT_TRUE(has_rebooted({.boot_id = "another"}, kBoot, 5));
  EXPECT_FALSE(has_rebooted({.boot_id = "another"}, "", 5)) << "not known";
  EXPECT_TRUE(has_rebooted({.log_sequence = 6}, "", 5));
}

}  // namespace
}  // namespace vpatch
