// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/driver.h"

#include <algorithm>
#include <optional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/driver_support.h"

namespace vpatch::fleet {
namespace {

using namespace std::chrono_literals;
using rollout::Command;
using rollout::DomainState;
using rollout::Looked;
using testing::Contains;
using testing::Not;

/// From here on the journal takes nothing of this kind.
std::string refuse(const std::string& what, const std::string& table) {
  return "CREATE TRIGGER no_more BEFORE " + what + " ON " + table +
         " BEGIN SELECT RAISE(ABORT, 'no space'); END";
}

TEST_F(DriverTest, CarriesASmallRolloutOut) {
  begin(2);
  start();
  up();
  for (const rollout::DomainId domain : {0U, 1U}) {
    finish(domain);
    healthy(domain);
  }
  run_to_end();
  EXPECT_FALSE(driver->error());
  EXPECT_TRUE(stored().record.finished);
  EXPECT_EQ(state(0), DomainState::done);
  EXPECT_EQ(state(1), DomainState::done);
  EXPECT_TRUE(sessions.front()->closed);
  EXPECT_THAT(kinds(), Contains("finished"));
}

TEST_F(DriverTest, NothingIsBegunOnAConnectionThatIsNotUp) {
  begin(1);
  start();
  turn();
  EXPECT_TRUE(asked.empty());
  EXPECT_EQ(sessions.front()->connects, 1);
}

TEST_F(DriverTest, WhatIsBegunIsJournaledBefore) {
  begin(1);
  start();
  DomainState then = DomainState::waiting;
  on_ask = [&] { then = state(0); };
  up();
  EXPECT_EQ(then, DomainState::applying);
}

TEST_F(DriverTest, WhatCannotBeJournaledIsNotBegun) {
  begin(1);
  start();
  sql(refuse("UPDATE", "rollout_domain"));
  up();
  EXPECT_EQ(count("apply"), 0U);
  run_to_end();
  const std::optional<Error>& error = driver->error();
  EXPECT_TRUE(error && error->outcome == Outcome::refused);
  EXPECT_EQ(state(0), DomainState::waiting);
}

TEST_F(DriverTest, MarkThatIsNotJournaledEndsTheApply) {
  begin(1);
  start();
  up();
  sql(refuse("UPDATE", "rollout_domain"));
  EXPECT_FALSE(sessions.front()->events.mark(0, {.boot_id = "b"}, {}));
  EXPECT_EQ(asked.back().what, "cancel");
  finish(0, "apply", Outcome::refused);
  run_to_end();
  EXPECT_TRUE(driver->error());
}

TEST_F(DriverTest, MarkIsJournaled) {
  begin(1);
  start();
  up();
  EXPECT_TRUE(sessions.front()->events.mark(0, {.boot_id = "b", .log_sequence = 7}, {"f"}));
  EXPECT_EQ(stored().begin.domains[0].mark, (HealthMark{.boot_id = "b", .log_sequence = 7}));
  EXPECT_EQ(stored().begin.domains[0].former, std::vector<std::string>{"f"});
}

TEST_F(DriverTest, LostConnectionLeavesItsDomainsToALook) {
  begin(1);
  start();
  up();
  sessions.front()->events.lost("gone");
  EXPECT_EQ(state(0), DomainState::unknown);
  EXPECT_EQ(count("look"), 0U);
  up();
  EXPECT_EQ(count("look"), 1U);
  looked(0, Looked::Guest::in_force);
  EXPECT_EQ(count("apply"), 1U);
  EXPECT_EQ(state(0), DomainState::watching);
  EXPECT_THAT(kinds(), Contains("connection-lost"));
  EXPECT_THAT(kinds(), Contains("connection-up"));
}

TEST_F(DriverTest, LostConnectionIsTriedAgain) {
  begin(1);
  start();
  sessions.front()->events.lost("no route");
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (sessions.front()->connects < 2 && std::chrono::steady_clock::now() < end) {
    context.restart();
    context.run_for(20ms);
  }
  EXPECT_EQ(sessions.front()->connects, 2);
}

TEST_F(DriverTest, ConnectionThatComesAndGoesIsTriedLaterEachTime) {
  begin(1);
  start();
  for (int i = 0; i < 4; ++i) {
    up();
    sessions.front()->events.lost("gone");
  }
  const int before = sessions.front()->connects;
  const auto end = std::chrono::steady_clock::now() + 1700ms;  // 8 s by now, without the jitter
  while (std::chrono::steady_clock::now() < end) {
    context.restart();
    context.run_for(50ms);
  }
  EXPECT_EQ(sessions.front()->connects, before);
}

TEST_F(DriverTest, LateAnswerOfALostConnectionChangesNothing) {
  begin(1);
  start();
  up();
  sessions.front()->events.lost("gone");
  finish(0);
  EXPECT_EQ(state(0), DomainState::unknown);
}

TEST_F(DriverTest, WarningsOfAHostAreJournaledUpToABound) {
  begin(1);
  start();
  up();
  for (int i = 0; i < 200; ++i) {
    sessions.front()->events.progress(0, "warning", "again");
  }
  EXPECT_EQ(std::ranges::count(kinds(), "warning"), 50);
}

TEST_F(DriverTest, ShowsWhatAVerbDoesAsLongAsItRuns) {
  begin(1);
  start();
  sessions.front()->events.progress(0, "step", "nothing of it runs");
  EXPECT_TRUE(driver->doing().empty());
  up();
  sessions.front()->events.progress(0, "step", "it loads");
  EXPECT_EQ(driver->doing().at(0), "it loads");
  finish(0);
  EXPECT_TRUE(driver->doing().empty());
}

// Commands of other processes.

TEST_F(DriverTest, CommandOfAnotherProcessIsTaken) {
  begin(1);
  const CommandId left = store_.ask(id, {.kind = Command::Kind::pause, .text = "me"}).value();
  start();
  EXPECT_TRUE(store_.was_taken(left).value());
  EXPECT_TRUE(stored().record.paused);
  run_to_end();
}

TEST_F(DriverTest, CommandAfterTheEndIsLeftToWhoGoesOn) {
  begin(1);
  const CommandId pause = store_.ask(id, {.kind = Command::Kind::pause, .text = "me"}).value();
  const CommandId back = store_.ask(id, {.kind = Command::Kind::rollback, .text = "me"}).value();
  start();
  run_to_end();
  EXPECT_TRUE(store_.was_taken(pause).value());
  EXPECT_FALSE(store_.was_taken(back).value());
  start();
  run_to_end();
  EXPECT_TRUE(store_.was_taken(back).value());
  EXPECT_EQ(stored().record.course, rollout::Course::back);
}

TEST_F(DriverTest, CommandThatIsNotJournaledIsNotTaken) {
  begin(1);
  const CommandId left = store_.ask(id, {.kind = Command::Kind::pause, .text = "me"}).value();
  make_driver();
  sql(refuse("UPDATE", "rollout"));
  driver->start();
  run_to_end();
  EXPECT_TRUE(driver->error());
  sql("DROP TRIGGER no_more");
  EXPECT_FALSE(store_.was_taken(left).value());
}

// Ends.

TEST_F(DriverTest, PauseEndsItOnceNothingIsAtWork) {
  begin(1);
  start();
  up();
  driver->command({.kind = Command::Kind::pause, .text = "me"});
  turn();
  EXPECT_FALSE(driver->has_ended());
  finish(0);
  turn();
  EXPECT_FALSE(driver->has_ended()) << "it is watched";
  healthy(0);
  run_to_end();
  EXPECT_EQ(state(0), DomainState::done);
}

TEST_F(DriverTest, InterruptCancelsAndWaits) {
  begin(1);
  start();
  up();
  driver->interrupt();
  EXPECT_EQ(asked.back().what, "cancel");
  EXPECT_EQ(asked.back().operation, newest("apply", 0).operation);
  turn();
  EXPECT_FALSE(driver->has_ended());
  finish(0, "apply", Outcome::refused);
  run_to_end();
  EXPECT_FALSE(driver->error());
  EXPECT_EQ(state(0), DomainState::applying) << "a resume looks at it";
}

TEST_F(DriverTest, InterruptDoesNotWaitForALostHost) {
  begin(1);
  start();
  up();
  driver->interrupt();
  sessions.front()->events.lost("gone");
  run_to_end();
}

TEST_F(DriverTest, NothingIsBegunAfterAnInterrupt) {
  begin(2);
  plan.limits.parallel = 1;
  start();
  up();
  driver->interrupt();
  finish(0);
  run_to_end();
  EXPECT_EQ(count("apply"), 1U);
  EXPECT_EQ(count("health"), 0U);
}

TEST_F(DriverTest, TimersOutliveIt) {
  begin(1);
  start();
  up();
  driver->interrupt();
  driver.reset();
  turn();
}

// Off domains.

TEST_F(DriverTest, DomainThatIsOffIsLeftToEnsureOnEachConnection) {
  begin(2, [](NewRollout& rollout) { rollout.domains[1].record.state = DomainState::off; });
  start();
  EXPECT_EQ(count("ensure"), 0U);
  up();
  EXPECT_EQ(newest("ensure", 1).domain, 1U);
  sessions.front()->events.lost("gone");
  up();
  EXPECT_EQ(count("ensure"), 2U);
}

TEST_F(DriverTest, RolloutDoesNotEndBeforeDomainsThatAreOffAreRegistered) {
  begin(2, [](NewRollout& rollout) { rollout.domains[1].record.state = DomainState::off; });
  start();
  up();
  finish(0);
  healthy(0);
  turn();
  EXPECT_FALSE(driver->has_ended());
  sessions.front()->left(1);
  run_to_end();
  EXPECT_TRUE(driver->has_ended());
  EXPECT_THAT(kinds(), Not(Contains("warning")));
}

TEST_F(DriverTest, DomainThatIsOffAndCouldNotBeRegisteredIsTold) {
  begin(2, [](NewRollout& rollout) { rollout.domains[1].record.state = DomainState::off; });
  start();
  up();
  finish(0);
  healthy(0);
  sessions.front()->left(1, false);
  run_to_end();
  EXPECT_TRUE(driver->has_ended());
  EXPECT_THAT(kinds(), Contains("warning"));
}

TEST_F(DriverTest, DomainThatIsOffIsNotLeftToEnsureOnTheWayBack) {
  begin(1, [](NewRollout& rollout) {
    rollout.domains[0].record.state = DomainState::off;
    rollout.domains[0].record.touched = true;
  });
  start(Command{.kind = Command::Kind::rollback, .text = "me"});
  up();
  EXPECT_EQ(count("ensure"), 0U);
  EXPECT_EQ(count("revert"), 1U) << "its registration has to go";
  finish(0, "revert");
  run_to_end();
  EXPECT_EQ(state(0), DomainState::reverted);
}

// Kill at each step, and go on.

/// Answers whatever is asked as a guest would. `in_force` is the truth.
class KilledDriverTest : public DriverTest, public testing::WithParamInterface<std::size_t> {
 protected:
  /// One answer to the oldest question of this driver that has none. False: there is none.
  bool answer_one() {
    if (answered_ == asked.size()) {
      return false;
    }
    const Asked question = asked[answered_++];
    if (question.what == "apply") {
      finish(question.domain);
    } else if (question.what == "health") {
      healthy(question.domain);
    } else if (question.what == "look") {
      looked(question.domain,
             in_force_.contains(question.domain) ? Looked::Guest::in_force : Looked::Guest::absent);
    }
    return true;
  }
  void carry_out() {
    for (std::size_t i = carried_; i < asked.size(); ++i) {
      if (asked[i].what == "apply") {
        EXPECT_TRUE(in_force_.insert(asked[i].domain).second) << "applied twice";
      }
    }
    carried_ = asked.size();
  }
  /// The process dies, and another goes on.
  void kill() {
    answered_ = asked.size();
    start();
    up();
  }

  std::set<rollout::DomainId> in_force_;
  std::size_t answered_ = 0;
  std::size_t carried_ = 0;
};

TEST_P(KilledDriverTest, DoesNothingTwice) {
  begin(3);
  plan.limits.parallel = 2;
  start();
  up();
  for (std::size_t step = 0; !driver->has_ended() && step < 100; ++step) {
    carry_out();
    if (step == GetParam()) {
      const std::size_t before = asked.size();
      kill();
      for (std::size_t i = before; i < asked.size(); ++i) {
        const bool new_one = asked[i].what == "apply" && !in_force_.contains(asked[i].domain);
        EXPECT_TRUE(asked[i].what == "look" || new_one) << asked[i].what;
      }
      carry_out();
    }
    if (!answer_one()) {
      turn();
    }
  }
  run_to_end();
  for (const rollout::DomainId domain : {0U, 1U, 2U}) {
    EXPECT_EQ(state(domain), DomainState::done);
  }
}

INSTANTIATE_TEST_SUITE_P(EachStep, KilledDriverTest, testing::Range<std::size_t>(0, 9));

}  // namespace
}  // namespace vpatch::fleet
