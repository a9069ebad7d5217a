// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/window.h"

#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::rollout {
namespace {

using namespace std::chrono_literals;
using std::chrono::day;
using std::chrono::month;
using std::chrono::sys_days;
using std::chrono::year;
using testing::HasSubstr;

/// A moment in UTC.
Time utc(int y, unsigned m, unsigned d, std::chrono::minutes time = 0min) {
  return sys_days(year(y) / month(m) / day(d)) + time;
}

MaintenanceWindow every_day(std::chrono::minutes from, std::chrono::minutes to,
                            std::string zone = "UTC", std::chrono::minutes cutoff = 0min) {
  return {std::bitset<7>(0x7F), from, to, cutoff, std::move(zone)};
}

MaintenanceWindow berlin(std::chrono::minutes from, std::chrono::minutes to,
                         std::chrono::minutes cutoff = 0min) {
  return every_day(from, to, "Europe/Berlin", cutoff);
}

/// How many minutes from `begin` on, in the next `length`, the window is open.
int open_minutes(const MaintenanceWindow& window, Time begin, std::chrono::minutes length) {
  int open = 0;
  for (Time moment = begin; moment < begin + length; moment += 1min) {
    open += window.open(moment) ? 1 : 0;
  }
  return open;
}

TEST(MaintenanceWindow, IsOpenFromItsBeginningToBeforeItsEnd) {
  const auto window = every_day(10h, 12h);
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 10h) - 1s));
  EXPECT_TRUE(window.open(utc(2026, 11, 21, 10h)));
  EXPECT_TRUE(window.open(utc(2026, 11, 21, 12h) - 1s));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 12h)));
}

TEST(MaintenanceWindow, StartsNothingInItsCutoff) {
  const auto window = every_day(10h, 12h, "UTC", 30min);
  EXPECT_TRUE(window.open(utc(2026, 11, 21, 11h + 30min) - 1s));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 11h + 30min)));
}

TEST(MaintenanceWindow, OverMidnightBelongsToTheDayOfItsBeginning) {
  auto window = every_day(22h, 4h);
  window.days = std::bitset<7>(1U << 5U);  // Friday; 2026-11-20 is one
  EXPECT_FALSE(window.open(utc(2026, 11, 20, 3h)));
  EXPECT_TRUE(window.open(utc(2026, 11, 20, 22h)));
  EXPECT_TRUE(window.open(utc(2026, 11, 21, 3h + 59min)));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 4h)));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 22h)));
}

TEST(MaintenanceWindow, HasItsCutoffAfterMidnight) {
  const auto window = every_day(22h, 0h + 10min, "UTC", 20min);
  EXPECT_TRUE(window.open(utc(2026, 11, 20, 23h + 49min)));
  EXPECT_FALSE(window.open(utc(2026, 11, 20, 23h + 50min)));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 0h + 5min)));
}

TEST(MaintenanceWindow, OfAWholeDayIsAlwaysOpen) {
  const auto window = every_day(6h, 6h);
  EXPECT_EQ(window.length(), 24h);
  EXPECT_EQ(open_minutes(window, utc(2026, 11, 20), 48h), 48 * 60);
}

TEST(MaintenanceWindow, CountsDaysByItsOwnZone) {
  auto window = every_day(0h, 2h, "Asia/Tokyo");
  window.days = std::bitset<7>(1U << 6U);  // Saturday, which begins on Friday 15:00 UTC
  EXPECT_TRUE(window.open(utc(2026, 11, 20, 15h)));
  EXPECT_FALSE(window.open(utc(2026, 11, 21, 15h)));
}

TEST(MaintenanceWindow, FollowsSummerTime) {
  const auto window = berlin(22h, 23h);
  EXPECT_EQ(window.next_opening(utc(2026, 1, 15)), utc(2026, 1, 15, 21h));
  EXPECT_EQ(window.next_opening(utc(2026, 7, 15)), utc(2026, 7, 15, 20h));
}

// On 2026-03-29 in Berlin 02:00 is followed by 03:00, at 01:00 UTC.

TEST(MaintenanceWindow, BeginsAtTheChangeWhenTheClockSkipsItsBeginning) {
  const auto window = berlin(2h + 30min, 4h);
  EXPECT_FALSE(window.open(utc(2026, 3, 29, 1h) - 1s));
  EXPECT_EQ(window.next_opening(utc(2026, 3, 29)), utc(2026, 3, 29, 1h));
  EXPECT_EQ(open_minutes(window, utc(2026, 3, 29), 24h), 60);
  EXPECT_EQ(open_minutes(window, utc(2026, 3, 30), 12h), 90);
}

TEST(MaintenanceWindow, EndsAtTheChangeWhenTheClockSkipsItsEnd) {
  const auto window = berlin(22h, 2h + 30min);
  EXPECT_TRUE(window.open(utc(2026, 3, 29, 1h) - 1s));
  EXPECT_FALSE(window.open(utc(2026, 3, 29, 1h)));
}

TEST(MaintenanceWindow, KeepsItsCutoffBeforeAnEndThatTheClockSkips) {
  const auto window = berlin(22h, 2h + 30min, 30min);
  EXPECT_TRUE(window.open(utc(2026, 3, 29, 0h + 29min)));
  EXPECT_FALSE(window.open(utc(2026, 3, 29, 0h + 30min)));
}

TEST(MaintenanceWindow, IsLeftOutWhenTheClockSkipsAllOfIt) {
  const auto window = berlin(2h + 10min, 2h + 40min);
  EXPECT_EQ(open_minutes(window, utc(2026, 3, 28, 12h), 24h), 0);
  EXPECT_EQ(window.next_opening(utc(2026, 3, 28, 12h)), utc(2026, 3, 30, 0h + 10min));
}

TEST(MaintenanceWindow, IsFoundAWeekLaterWhenTheClockSkipsAWeeklyOne) {
  auto window = berlin(2h, 3h);
  window.days = std::bitset<7>(1U << 0U);  // Sunday
  EXPECT_EQ(window.next_opening(utc(2026, 3, 28)), utc(2026, 4, 5, 0h));
}

TEST(MaintenanceWindow, IsAnHourShorterOverTheLostHour) {
  EXPECT_EQ(open_minutes(berlin(22h, 4h), utc(2026, 3, 28, 12h), 24h), 5 * 60);
}

// On 2026-10-25 in Berlin 03:00 is followed by 02:00, at 01:00 UTC.

TEST(MaintenanceWindow, IsAnHourLongerOverTheHourThatIsThereTwice) {
  EXPECT_EQ(open_minutes(berlin(22h, 4h), utc(2026, 10, 24, 12h), 24h), 7 * 60);
}

TEST(MaintenanceWindow, EndsAtTheFirstOfTwo) {
  const auto window = berlin(22h, 2h + 30min);
  EXPECT_TRUE(window.open(utc(2026, 10, 25, 0h + 30min) - 1s));
  EXPECT_FALSE(window.open(utc(2026, 10, 25, 0h + 30min)));
  EXPECT_FALSE(window.open(utc(2026, 10, 25, 1h + 15min)));
}

TEST(MaintenanceWindow, BeginsAtTheSecondOfTwo) {
  const auto window = berlin(2h + 30min, 4h);
  EXPECT_EQ(window.next_opening(utc(2026, 10, 25)), utc(2026, 10, 25, 1h + 30min));
  EXPECT_FALSE(window.open(utc(2026, 10, 25, 0h + 45min)));
}

TEST(MaintenanceWindow, WithinTheHourThatIsThereTwiceIsOpenOnceAtTheFirst) {
  const auto window = berlin(2h + 10min, 2h + 40min);
  EXPECT_EQ(window.next_opening(utc(2026, 10, 25)), utc(2026, 10, 25, 0h + 10min));
  EXPECT_EQ(open_minutes(window, utc(2026, 10, 24, 12h), 24h), 30);
}

TEST(MaintenanceWindow, FollowsAChangeAtMidnight) {
  // In Havana, on 2026-03-08, 00:00 is followed by 01:00, at 05:00 UTC.
  const auto window = every_day(23h, 0h + 30min, "America/Havana");
  EXPECT_TRUE(window.open(utc(2026, 3, 8, 5h) - 1s));
  EXPECT_FALSE(window.open(utc(2026, 3, 8, 5h)));
}

/// What a Berlin clock shows, without the library under test's way there.
std::chrono::minutes berlin_clock(Time moment) {
  const bool summer = moment >= utc(2026, 3, 29, 1h) && moment < utc(2026, 10, 25, 1h);
  const auto local = moment + (summer ? 2h : 1h);
  return std::chrono::floor<std::chrono::minutes>(local -
                                                  std::chrono::floor<std::chrono::days>(local));
}

TEST(MaintenanceWindow, IsNeverOpenWhenTheClockShowsATimeOutsideOfIt) {
  for (const Time change : {utc(2026, 3, 29, 1h), utc(2026, 10, 25, 1h)}) {
    for (auto from = 0min; from < 24h; from += 20min) {
      for (auto to = 0min; to < 5h; to += 25min) {
        const auto window = berlin(from, to);
        for (Time moment = change - 4h; moment < change + 4h; moment += 5min) {
          const auto clock = berlin_clock(moment);
          const bool inside = from < to ? clock >= from && clock < to : clock >= from || clock < to;
          ASSERT_TRUE(inside || !window.open(moment))
              << from.count() << "-" << to.count() << " at " << moment.time_since_epoch().count();
        }
      }
    }
  }
}

TEST(MaintenanceWindow, NextOpeningIsTheFirstMomentThatIsOpen) {
  auto window = berlin(22h, 2h + 30min, 45min);
  window.days = std::bitset<7>(0b1000001);  // Saturday, Sunday
  for (const Time begin : {utc(2026, 3, 27), utc(2026, 10, 23), utc(2026, 11, 20)}) {
    Time expected = begin + 96h;
    for (Time moment = begin + 96h; moment >= begin; moment -= 1min) {
      if (window.open(moment)) {
        expected = moment;
      }
      if (expected < begin + 96h) {
        ASSERT_EQ(window.next_opening(moment), expected);
      }
    }
    EXPECT_LT(expected, begin + 96h);
  }
}

TEST(MaintenanceWindow, WithoutDaysNeverOpens) {
  MaintenanceWindow window = every_day(10h, 12h);
  window.days.reset();
  EXPECT_EQ(window.next_opening(utc(2026, 11, 21)), std::nullopt);
}

TEST(MaintenanceWindow, WithACutoffAsLongAsItselfNeverOpens) {
  EXPECT_EQ(every_day(10h, 12h, "UTC", 2h).next_opening(utc(2026, 11, 21)), std::nullopt);
}

TEST(MaintenanceWindow, OfAnUnknownZoneNeverOpens) {
  const auto window = every_day(0h, 0h, "Europe/Atlantis");
  EXPECT_FALSE(window.open(utc(2026, 11, 21)));
  EXPECT_EQ(window.next_opening(utc(2026, 11, 21)), std::nullopt);
}

TEST(CheckZone, TakesZonesOfTheDatabase) {
  for (const char* zone : {"UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"}) {
    EXPECT_TRUE(check_zone(zone)) << zone;
  }
}

TEST(CheckZone, RefusesWhatIsNone) {
  for (const char* zone : {"", "Europe", "europe/berlin", "CEST", "../../etc/passwd", "zone.tab",
                           "/etc/localtime", "localtime", "Europe/Berlin "}) {
    const auto checked = check_zone(zone);
    ASSERT_FALSE(checked) << zone;
    EXPECT_EQ(checked.error().outcome, Outcome::usage);
    EXPECT_THAT(checked.error().what, HasSubstr("is not a time zone"));
  }
}

}  // namespace
}  // namespace vpatch::rollout
