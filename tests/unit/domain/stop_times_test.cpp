// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/stop_times.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qemu.h"
#include "vmm-agent/domain/pause.h"

namespace vpatch {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr milliseconds kLongLimit{600'000};
const qmp::CallOptions kShortly{.timeout = milliseconds(50)};

TEST(StopTimes, AreOfTheNewestStop) {
  StopTimes times;
  times.note("STOP", microseconds(100));
  times.note("RESUME", microseconds(150));
  EXPECT_EQ(times.length(), microseconds(50));
  times.note("STOP", microseconds(1000));
  EXPECT_FALSE(times.complete());
  EXPECT_EQ(times.length(), std::nullopt);
  times.note("RESUME", microseconds(1007));
  times.note("RESUME", microseconds(9000));
  EXPECT_EQ(times.length(), microseconds(7));
}

TEST(StopTimes, LeaveOutEventsOfAnEarlierPause) {
  StopTimes times(std::chrono::microseconds(500));
  times.note("STOP", std::chrono::microseconds(100));
  times.note("RESUME", std::chrono::microseconds(200));
  EXPECT_FALSE(times.complete());
  times.note("STOP", std::chrono::microseconds(600));
  times.note("RESUME", std::chrono::microseconds(650));
  EXPECT_EQ(times.length(), std::chrono::microseconds(50));
}

TEST(StopTimes, NeedAStopFirst) {
  StopTimes times;
  times.note("RESUME", microseconds(150));
  EXPECT_FALSE(times.complete());
}

TEST(StopTimes, MakeNoSenseWithoutStampsOrWithAClockSetBack) {
  StopTimes unstamped;
  unstamped.note("STOP", microseconds(0));
  unstamped.note("RESUME", microseconds(0));
  EXPECT_TRUE(unstamped.complete());
  EXPECT_EQ(unstamped.length(), std::nullopt);
  StopTimes set_back;
  set_back.note("STOP", microseconds(100));
  set_back.note("RESUME", microseconds(99));
  EXPECT_EQ(set_back.length(), std::nullopt);
}

TEST(StopTimes, TellAResumeThatNobodyHereHasAskedFor) {
  StopTimes times;
  times.note("STOP", microseconds(100));
  EXPECT_FALSE(times.resumed_by_others());
  times.note("RESUME", microseconds(150));
  EXPECT_TRUE(times.resumed_by_others());
}

TEST(StopTimes, KnowTheResumeThatWasAskedFor) {
  StopTimes times;
  times.note("STOP", microseconds(100));
  times.asking(microseconds(200));
  times.asking(microseconds(900));  // tried again
  times.note("RESUME", microseconds(250));
  EXPECT_FALSE(times.resumed_by_others());
}

TEST(StopTimes, TellAnEarlierResumeThatCameLate) {
  StopTimes times;
  times.note("STOP", microseconds(100));
  times.asking(microseconds(200));
  times.note("RESUME", microseconds(150));
  EXPECT_FALSE(times.complete());
  times.note("STOP", microseconds(160));
  times.note("RESUME", microseconds(250));
  EXPECT_TRUE(times.resumed_by_others());
  EXPECT_EQ(times.length(), microseconds(90));
}

TEST(QemuStops, TellWhoeverElseResumes) {
  Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  for (const bool again : {false, true}) {
    auto pause = Pause::take(*domain, qemu.target(), kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    EXPECT_TRUE(pause->still_holds({}));
    qemu.execute("cont");
    if (again) {
      qemu.execute("stop");
    }
    ASSERT_TRUE(domain->run_state({}));
    EXPECT_FALSE(pause->still_holds({}));
    ASSERT_TRUE(pause->resume());
    EXPECT_TRUE(pause->ran_on());
    EXPECT_EQ(qemu.status(), "running");
  }
  auto pause = Pause::take(*domain, qemu.target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(pause) << pause.error().what;
  ASSERT_TRUE(pause->resume());
  EXPECT_FALSE(pause->ran_on());
}

TEST(QemuStops, AreTimedByQemuWithinThePause) {
  const Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  for (const milliseconds held : {milliseconds(50), milliseconds(0)}) {
    auto pause = Pause::take(*domain, qemu.target(), kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    std::this_thread::sleep_for(held);
    const auto length = pause->resume();
    ASSERT_TRUE(length) << length.error().what;
    EXPECT_TRUE(pause->from_events());
    EXPECT_GE(*length, held);
    EXPECT_LE(*length, pause->held_for());
    std::printf("pause: %ld us by QEMU's events, %ld us from here\n", length->count(),
                pause->held_for().count());
  }
}

TEST(QemuStops, HaveNoLengthUntilTheResume) {
  const Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  domain->watch_stops({});
  EXPECT_FALSE(domain->stopped_for(kShortly));
  ASSERT_TRUE(domain->pause({}));
  const auto early = domain->stopped_for(kShortly);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().outcome, Outcome::unreachable);
  ASSERT_TRUE(domain->resume({}));
  EXPECT_TRUE(domain->stopped_for({}));
}

TEST(QemuStops, BeforeTheWatchDoNotCount) {
  const Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  ASSERT_TRUE(domain->pause({}));
  ASSERT_TRUE(domain->resume({}));
  domain->watch_stops({});
  EXPECT_FALSE(domain->stopped_for(kShortly));
}

TEST(QemuStops, OfADeadQemuAreAnError) {
  Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  domain->watch_stops({});
  qemu.kill();
  EXPECT_FALSE(domain->stopped_for({}));
}

}  // namespace
}  // namespace vpatch
