// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/measured_times.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

namespace json = boost::json;

std::vector<Microseconds> up_to(int last) {
  std::vector<Microseconds> values;
  for (int value = last; value > 0; --value) {
    values.emplace_back(value);
  }
  return values;
}

TEST(Quantiles, AreNearestRanks) {
  const Quantiles quantiles = quantiles_of(up_to(200));
  EXPECT_EQ(quantiles.count, 200);
  EXPECT_EQ(quantiles.p50, Microseconds(100));
  EXPECT_EQ(quantiles.p90, Microseconds(180));
  EXPECT_EQ(quantiles.p99, Microseconds(198));
  EXPECT_EQ(quantiles.max, Microseconds(200));
}

TEST(Quantiles, AreValuesThatAreThereWhenThereAreFew) {
  const Quantiles one = quantiles_of({Microseconds(7)});
  EXPECT_EQ(one.p50, Microseconds(7));
  EXPECT_EQ(one.p99, Microseconds(7));
  const Quantiles three = quantiles_of({Microseconds(30), Microseconds(10), Microseconds(20)});
  EXPECT_EQ(three.p50, Microseconds(20));
  EXPECT_EQ(three.p90, Microseconds(30));
}

TEST(Quantiles, OfNothingAreZero) {
  EXPECT_EQ(quantiles_of({}).count, 0);
  EXPECT_EQ(quantiles_of({}).max, Microseconds(0));
}

RolloutDomain reported(std::string_view report) {
  RolloutDomain domain;
  domain.apply_report = json::parse(report).as_object();
  return domain;
}

TEST(MeasuredTimes, TakeTheHostsTransitionFirst) {
  const auto times =
      times_of(reported(R"({"transition_us":12,"transition":{"lasted_us":99,"paused_us":3}})"));
  EXPECT_EQ(times.transition, Microseconds(99));
  EXPECT_EQ(times.pause, Microseconds(3));
}

TEST(MeasuredTimes, TakeTheGuestModulesTransitionElse) {
  const auto times = times_of(reported(R"({"transition_us":12,"transition":null})"));
  EXPECT_EQ(times.transition, Microseconds(12));
  EXPECT_FALSE(times.pause);
}

TEST(MeasuredTimes, PassOverWhatIsNoTime) {
  for (const char* report :
       {R"({"transition_us":-1})", R"({"transition_us":"12"})", R"({"transition_us":1.5})",
        R"({"transition_us":1e300})", R"({"transition_us":18446744073709551615})",
        R"({"transition_us":[]})", R"({"transition":[1]})", R"({"transition":{"lasted_us":{}}})"}) {
    EXPECT_FALSE(times_of(reported(report)).transition) << report;
  }
}

TEST(ParseUtc, ReadsWhatTheJournalWrites) {
  const Moment moment = parse_utc("2026-11-21T09:41:23.000017Z").value_or(Moment());
  EXPECT_EQ(moment.time_since_epoch(), Microseconds(1795254083000017));
  EXPECT_EQ(iso_text(moment), "2026-11-21T09:41:23Z");
  EXPECT_TRUE(parse_utc("2026-11-21T09:41:23Z"));
}

TEST(ParseUtc, RefusesEverythingElse) {
  for (const char* text : {"", "Z", "2026-11-21", "2026-11-21T09:41:23", "2026-13-21T09:41:23Z",
                           "2026-02-30T09:41:23Z", "2026-11-21T24:41:23Z", "2026-11-21T09:60:23Z",
                           "2026-11-21T09:41:23.17Z", "2026-11-21T09:41:23.-00017Z",
                           "2026-11-21T-9:41:23Z", "2026-11-21 09:41:23Z"}) {
    EXPECT_FALSE(parse_utc(text)) << text;
  }
}

TEST(ShortTime, KeepsThreeDigits) {
  EXPECT_EQ(short_time(Microseconds(0)), "0 ms");
  EXPECT_EQ(short_time(Microseconds(1234)), "1.23 ms");
  EXPECT_EQ(short_time(Microseconds(9999)), "10.0 ms");
  EXPECT_EQ(short_time(Microseconds(123456)), "123 ms");
  EXPECT_EQ(short_time(Microseconds(999600)), "1.00 s");
  EXPECT_EQ(short_time(Microseconds(12345678)), "12.3 s");
}

TEST(ElapsedText, HasTwoUnits) {
  EXPECT_EQ(elapsed_text(std::chrono::seconds(-5)), "0s");
  EXPECT_EQ(elapsed_text(std::chrono::seconds(59)), "59s");
  EXPECT_EQ(elapsed_text(std::chrono::seconds(3599)), "59m 59s");
  EXPECT_EQ(elapsed_text(std::chrono::seconds(3780)), "1h 03m");
  EXPECT_EQ(elapsed_text(std::chrono::seconds(90000)), "1d 01h");
}

}  // namespace
}  // namespace vpatch::fleet
