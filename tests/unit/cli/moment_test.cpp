// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/moment.h"

#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace vpatch {
namespace {

using namespace std::chrono;

const system_clock::time_point kNow =
    sys_days(2026y / November / 21) + 9h + 41min + 23s + 17ms + 5us;

std::string text_of(std::string_view word) {
  const auto moment = parse_moment(word, kNow);
  return moment ? *moment : "usage " + std::to_string(static_cast<int>(moment.error().outcome));
}

TEST(Moment, IsADateOrATimeInUtc) {
  EXPECT_EQ(text_of("2026-11-21"), "2026-11-21T00:00:00.000000Z");
  EXPECT_EQ(text_of("2026-11-21T09:41"), "2026-11-21T09:41:00.000000Z");
  EXPECT_EQ(text_of("2026-11-21 09:41:23"), "2026-11-21T09:41:23.000000Z");
  EXPECT_EQ(text_of("2028-02-29T23:59:59Z"), "2028-02-29T23:59:59.000000Z");
}

TEST(Moment, IsSoLongAgo) {
  EXPECT_EQ(text_of("2h"), "2026-11-21T07:41:23.017000Z");
  EXPECT_EQ(text_of("90s"), "2026-11-21T09:39:53.017000Z");
  EXPECT_EQ(text_of("7d"), "2026-11-14T09:41:23.017000Z");
  EXPECT_EQ(text_of("0s"), "2026-11-21T09:41:23.017000Z");
}

TEST(Moment, IsNothingElse) {
  for (const char* wrong :
       {"", "d", "-1d", "99999999999d", "40000d", "yesterday", "2026", "2026-02-30", "2026-13-01",
        "2026-11-21T", "2026-11-21T24:00", "2026-11-21T09:60", "2026-11-21T09:41:60",
        "2026-11-21x09:41", "2026-11-21T09:41Z1", "2026/11/21", "+026-11-21", "2026-11-2 "}) {
    EXPECT_EQ(text_of(wrong), "usage 2") << wrong;
  }
}

}  // namespace
}  // namespace vpatch
