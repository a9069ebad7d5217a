// SPDX-License-Identifier: Apache-2.0
#include "qmp/message.h"

#include <string>

#include <gtest/gtest.h>

namespace vpatch::qmp {
namespace {

constexpr MessageLimits kLimits{};

TEST(ErrorTest, EveryKindHasAWordOfItsOwn) {
  EXPECT_EQ(to_string(Errc::connect), "connect");
  EXPECT_EQ(to_string(Errc::closed), "closed");
  EXPECT_EQ(to_string(Errc::timeout), "timeout");
  EXPECT_EQ(to_string(Errc::cancelled), "cancelled");
  EXPECT_EQ(to_string(Errc::protocol), "protocol");
  EXPECT_EQ(to_string(Errc::too_large), "too_large");
  EXPECT_EQ(to_string(Errc::command), "command");
  EXPECT_EQ(to_string(Errc::argument), "argument");
}

TEST(MessageTest, ParsesUpToTheDepthLimit) {
  const auto nested = [](std::size_t depth) {
    return "{\"a\": " + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(parse_message(nested(kLimits.max_depth), kLimits).has_value());
  EXPECT_EQ(parse_message(nested(kLimits.max_depth + 1), kLimits).error().code, Errc::protocol);
  EXPECT_EQ(parse_message(nested(500'000), kLimits).error().code, Errc::protocol);
}

TEST(MessageTest, RefusesTrailingText) {
  EXPECT_EQ(parse_message("{} {}", kLimits).error().code, Errc::protocol);
}

TEST(MessageTest, RefusesAMessageOverTheCapBeforeParsing) {
  EXPECT_EQ(parse_message("not even JSON", {.max_bytes = 5}).error().code, Errc::too_large);
}

TEST(MessageTest, RefusesMoreValuesThanTheLimit) {
  EXPECT_TRUE(parse_message("{\"a\": [1, 2]}", {.max_values = 4}).has_value());
  EXPECT_EQ(parse_message("{\"a\": [1, 2, 3]}", {.max_values = 4}).error().code, Errc::too_large);
}

TEST(MessageTest, CommandIsOneLineWhateverTheArguments) {
  EXPECT_EQ(format_command("x", {{"text", "a\r\nb"}}, 7, kLimits).value_or(""),
            "{\"execute\":\"x\",\"arguments\":{\"text\":\"a\\r\\nb\"},\"id\":7}\n");
}

TEST(MessageTest, CommandOverTheCapIsRefused) {
  EXPECT_EQ(
      format_command("x", {{"text", std::string(100, 'a')}}, 7, {.max_bytes = 100}).error().code,
      Errc::argument);
}

TEST(MessageTest, PrintableHidesControlsAndCutsLongText) {
  EXPECT_EQ(printable("a\tb\x7F\xC2\x9B \u2018"), "a?b?? ?");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace vpatch::qmp
