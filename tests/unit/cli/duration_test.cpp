// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/duration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

Result<milliseconds> parse(std::string_view text) {
  return parse_duration(text, 0s, 24h);
}

TEST(Duration, TakesUnits) {
  EXPECT_EQ(parse("20ms").value(), 20ms);
  EXPECT_EQ(parse("1.5s").value(), 1500ms);
  EXPECT_EQ(parse("2m").value(), 120s);
  EXPECT_EQ(parse("1h").value(), 1h);
  EXPECT_EQ(parse("0.5h").value(), 30min);
}

TEST(Duration, IsInSecondsWithoutAUnit) {
  EXPECT_EQ(parse("60").value(), 60s);
  EXPECT_EQ(parse("0").value(), 0s);
  EXPECT_EQ(parse("0.25").value(), 250ms);
  EXPECT_EQ(parse(".5").value(), 500ms);
}

TEST(Duration, KeepsEachMillisecond) {
  for (int ms = 0; ms < 5000; ++ms) {
    EXPECT_EQ(parse(std::to_string(ms / 1000.0)).value(), milliseconds(ms));
  }
  EXPECT_EQ(parse("0.9ms").value(), 0ms);
}

TEST(Duration, RefusesWhatIsNone) {
  for (const char* text : {"",     "s",   "ms",   "one",   "1 s",  " 1s",  "1s ",       "1S",
                           "1us",  "1d",  "1sec", "1m30s", "1e3",  "0x10", "+1",        "--1",
                           "1,5s", "inf", "nan",  "nans",  "infs", "1..5", "1\xc2\xb5s"}) {
    const auto duration = parse(text);
    ASSERT_FALSE(duration) << text;
    EXPECT_EQ(duration.error().outcome, Outcome::usage);
    EXPECT_THAT(duration.error().what, testing::HasSubstr("is not a duration, such as 20ms, 1.5s"));
  }
}

TEST(Duration, RefusesWhatIsOutOfBounds) {
  for (const char* text :
       {"-1", "24.001h", "86401", "1000000000000h", "1e", "99999999999999999999"}) {
    EXPECT_FALSE(parse(text)) << text;
  }
  const auto low = parse_duration("10ms", 1s, 1h);
  ASSERT_FALSE(low);
  EXPECT_EQ(low.error().what, "10ms is not from 1s to 1h");
  EXPECT_EQ(parse_duration("1", 1s, 1h).value(), 1s);
  EXPECT_EQ(parse_duration("60m", 1s, 1h).value(), 1h);
}

TEST(Duration, IsWrittenInItsLargestWholeUnit) {
  EXPECT_EQ(format_duration(0ms), "0s");
  EXPECT_EQ(format_duration(20ms), "20ms");
  EXPECT_EQ(format_duration(1500ms), "1500ms");
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(60s), "1m");
  EXPECT_EQ(format_duration(24h), "24h");
}

}  // namespace
}  // namespace vpatch
