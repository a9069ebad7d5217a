// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/pause.h"

#include <optional>
#include <stop_token>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_domain.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr milliseconds kLongLimit{600'000};

/// A real guardian, of a VM that is nowhere: whatever it does has no effect here.
Target nowhere() {
  Target target;
  target.qmp = "/nonexistent/qmp";
  return target;
}

Result<Pause> take(FakeDomain& domain, milliseconds limit = kLongLimit) {
  return Pause::take(domain, nowhere(), limit, {}, VPATCH_PROGRAM);
}

Result<PauseLock> lock(const FakeDomain& domain) {
  return PauseLock::take(domain.identity(), domain.name(), {.timeout = milliseconds(10)});
}

TEST(Pause, PausesAndResumesOnce) {
  FakeDomain domain;
  {
    auto pause = take(domain);
    ASSERT_TRUE(pause) << pause.error().what;
    EXPECT_TRUE(pause->ours());
    EXPECT_TRUE(pause->resume());
    EXPECT_TRUE(pause->resume());
  }
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume"));
}

TEST(Pause, TellsHowLongTheDomainStoodWithTheTimeOfTheCall) {
  FakeDomain domain;
  domain.pause_takes = milliseconds(20);
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_GE(pause->resume().value(), milliseconds(20));
}

TEST(Pause, IsAsLongAsTheEventsOfTheDomainTell) {
  FakeDomain domain;
  domain.pause_takes = milliseconds(20);
  domain.stopped = std::chrono::microseconds(1500);
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_FALSE(pause->from_events());
  EXPECT_EQ(pause->resume().value(), domain.stopped);
  EXPECT_TRUE(pause->from_events());
  EXPECT_EQ(pause->resume().value(), domain.stopped) << "asked again";
  EXPECT_GE(pause->held_for(), milliseconds(20));
}

TEST(Pause, WithoutEventsIsAsLongAsItSeemedFromHere) {
  FakeDomain domain;
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  const auto length = pause->resume();
  EXPECT_EQ(length.value(), pause->held_for());
  EXPECT_FALSE(pause->from_events());
}

TEST(Pause, DoesNotBelieveEventsLongerApartThanTheCallsWere) {
  FakeDomain domain;
  domain.stopped = std::chrono::hours(1);  // the host's clock was set
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  const auto length = pause->resume();
  EXPECT_EQ(length.value(), pause->held_for());
  EXPECT_FALSE(pause->from_events());
}

TEST(Pause, TellsWhatItCostsBeforeItEnds) {
  FakeDomain domain;
  domain.pause_takes = milliseconds(20);
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  const auto before = pause->held_for();
  EXPECT_GE(before, milliseconds(20));
  ASSERT_TRUE(pause->resume());
  EXPECT_GE(pause->held_for(), before);
}

TEST(Pause, DestructorResumes) {
  FakeDomain domain;
  {
    ASSERT_TRUE(take(domain));
  }
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume"));
}

TEST(Pause, MovedAlongIsResumedOnce) {
  FakeDomain domain;
  {
    auto pause = take(domain);
    ASSERT_TRUE(pause) << pause.error().what;
    const Pause moved(*std::move(pause));
    EXPECT_TRUE(moved.ours());
  }
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume"));
}

TEST(Pause, OfSomebodyElseIsLeftAlone) {
  FakeDomain domain;
  domain.state = RunState::paused;
  {
    auto pause = take(domain);
    ASSERT_TRUE(pause) << pause.error().what;
    EXPECT_FALSE(pause->ours());
    EXPECT_EQ(pause->resume().value().count(), 0);
    EXPECT_EQ(pause->held_for().count(), 0);
    EXPECT_FALSE(pause->from_events());
  }
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, IsRefusedWhenTheDomainIsShutOff) {
  FakeDomain domain;
  domain.state = RunState::shut_off;
  const auto pause = take(domain);
  ASSERT_FALSE(pause);
  EXPECT_THAT(pause.error().what, HasSubstr("web01: cannot pause: it is shut off"));
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, IsRefusedWhileTheDomainIsMigrated) {
  FakeDomain domain;
  domain.fake_monitor.migration = "active";
  const auto pause = take(domain);
  ASSERT_FALSE(pause);
  EXPECT_EQ(pause.error().outcome, Outcome::refused);
  EXPECT_THAT(pause.error().what, HasSubstr("web01: cannot pause: it is being migrated"));
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, DoesNotHappenWhenAMigrationCannotBeExcluded) {
  FakeDomain domain;
  domain.channel = nullptr;
  EXPECT_FALSE(take(domain));
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, IsRefusedWhileAnotherHoldsTheLock) {
  FakeDomain domain;
  const auto other = lock(domain);
  ASSERT_TRUE(other) << other.error().what;
  const auto pause =
      Pause::take(domain, nowhere(), kLongLimit, {.timeout = milliseconds(30)}, VPATCH_PROGRAM);
  ASSERT_FALSE(pause);
  EXPECT_EQ(pause.error().outcome, Outcome::refused);
  EXPECT_THAT(pause.error().what, HasSubstr("web01: another vpatch pauses it"));
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, WaitsForTheLockOfAShortOne) {
  FakeDomain domain;
  std::optional<Result<PauseLock>> other = lock(domain);
  ASSERT_TRUE(*other) << other->error().what;
  const std::jthread soon([&other] {
    std::this_thread::sleep_for(milliseconds(50));
    other.reset();
  });
  const auto pause = take(domain);
  EXPECT_TRUE(pause) << pause.error().what;
}

TEST(Pause, HoldsTheLockAsLongAsItOwes) {
  FakeDomain domain;
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_FALSE(lock(domain));
  ASSERT_TRUE(pause->resume());
  EXPECT_TRUE(lock(domain));
}

TEST(Pause, OfSomebodyElseHoldsNoLock) {
  FakeDomain domain;
  domain.state = RunState::paused;
  const auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_TRUE(lock(domain));
}

TEST(Pause, TellsThatSomebodyElseHasEndedIt) {
  FakeDomain domain;
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_TRUE(pause->still_holds({}));
  domain.resumed_by_another = true;
  EXPECT_FALSE(pause->still_holds({}));
  ASSERT_TRUE(pause->resume());
  EXPECT_TRUE(pause->ran_on());
}

TEST(Pause, LeavesCallsInItNoMoreTimeThanItHas) {
  FakeDomain domain;
  domain.pause_takes = milliseconds(20);
  const auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  const auto calls = pause->calls_within(kLongLimit, {.timeout = kLongLimit * 2});
  ASSERT_TRUE(calls) << calls.error().what;
  EXPECT_LE(calls->timeout, kLongLimit - milliseconds(19));
  EXPECT_EQ(pause->calls_within(kLongLimit, {.timeout = milliseconds(7)})->timeout,
            milliseconds(7));
  const auto late = pause->calls_within(milliseconds(20), {});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().outcome, Outcome::refused);
}

TEST(Pause, DoesNotHappenWithoutAGuardian) {
  for (const char* program : {"/bin/false", "/nonexistent/program"}) {
    FakeDomain domain;
    const auto pause = Pause::take(domain, nowhere(), kLongLimit, {}, program);
    ASSERT_FALSE(pause) << program;
    EXPECT_EQ(pause.error().outcome, Outcome::refused);
    EXPECT_THAT(pause.error().what, HasSubstr("guardian"));
    EXPECT_THAT(domain.calls, IsEmpty());
  }
}

TEST(Pause, ThatFailsIsUndoneInCaseItTookEffect) {
  FakeDomain domain;
  domain.pause_fails = true;
  const auto pause = take(domain);
  ASSERT_FALSE(pause);
  EXPECT_THAT(pause.error().what, HasSubstr("no answer to pause"));
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume"));
}

TEST(Pause, ThatComesAfterItsLimitIsUndone) {
  FakeDomain domain;
  domain.pause_takes = milliseconds(60);
  const auto pause = take(domain, milliseconds(30));
  ASSERT_FALSE(pause);
  EXPECT_THAT(pause.error().what, HasSubstr("too long"));
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume"));
}

TEST(Pause, KnowsWhenItsLimitHasPassed) {
  FakeDomain domain;
  constexpr milliseconds kLimit{1500};
  auto pause = take(domain, kLimit);
  ASSERT_TRUE(pause) << pause.error().what;
  std::this_thread::sleep_for(kLimit);
  EXPECT_FALSE(pause->within_limit());
}

TEST(Pause, ResumeTriesAgain) {
  FakeDomain domain;
  domain.failing_resumes = 2;
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_TRUE(pause->resume());
  EXPECT_THAT(domain.calls, ElementsAre("pause", "resume", "resume", "resume"));
}

TEST(Pause, ResumeThatFailsSaysWhatToDo) {
  FakeDomain domain;
  domain.failing_resumes = 1000;
  auto pause = take(domain);
  ASSERT_TRUE(pause) << pause.error().what;
  const auto resumed = pause->resume();
  ASSERT_FALSE(resumed);
  EXPECT_EQ(resumed.error().outcome, Outcome::failed_needs_look);
  EXPECT_THAT(resumed.error().what, HasSubstr("web01 is still paused: no answer to resume"));
  EXPECT_THAT(resumed.error().hint, HasSubstr("virsh resume"));
}

TEST(Pause, DestructorTriesAgainAfterResumeFailed) {
  FakeDomain domain;
  domain.failing_resumes = 4;
  {
    auto pause = take(domain);
    ASSERT_TRUE(pause) << pause.error().what;
    EXPECT_FALSE(pause->resume());
  }
  EXPECT_EQ(domain.state, RunState::running);
}

TEST(Pause, AnInterruptStopsNeitherTheResumeNorTheDestructor) {
  FakeDomain domain;
  std::stop_source interrupt;
  {
    auto pause =
        Pause::take(domain, nowhere(), kLongLimit, {.stop = interrupt.get_token()}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    interrupt.request_stop();
  }
  EXPECT_EQ(domain.state, RunState::running);
  EXPECT_FALSE(domain.resume_was_stoppable);
}

TEST(Pause, AnInterruptBeforeItLeavesTheDomainAlone) {
  FakeDomain domain;
  std::stop_source interrupt;
  interrupt.request_stop();
  const auto pause =
      Pause::take(domain, nowhere(), kLongLimit, {.stop = interrupt.get_token()}, VPATCH_PROGRAM);
  ASSERT_FALSE(pause);
  EXPECT_THAT(pause.error().what, HasSubstr("interrupted"));
  EXPECT_THAT(domain.calls, IsEmpty());
}

TEST(Pause, OneGuardianServesManyPauses) {
  FakeDomain domain;
  auto guardian = Guardian::start(nowhere(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(guardian) << guardian.error().what;
  for (int i = 0; i < 20; ++i) {
    auto pause = Pause::take(domain, *guardian, {});
    ASSERT_TRUE(pause) << pause.error().what;
    ASSERT_TRUE(pause->resume());
  }
  EXPECT_EQ(domain.calls.size(), 40U);
}

}  // namespace
}  // namespace vpatch
