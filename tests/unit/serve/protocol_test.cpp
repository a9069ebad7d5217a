// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/protocol.h"

#include <string>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::serve {
namespace {

namespace json = boost::json;
using testing::ElementsAre;

ErrorCode code_of(std::string_view line) {
  const auto message = parse_message(line);
  return message ? ErrorCode{} : message.error().code;
}

TEST(Protocol, ReadsWhatItWrites) {
  const auto request = parse_message(format_request(7, "look", {{"domain", "web01"}}));
  ASSERT_TRUE(request);
  EXPECT_EQ(std::get<Request>(*request).id, 7);
  EXPECT_EQ(std::get<Request>(*request).method, "look");
  EXPECT_EQ(std::get<Request>(*request).params, (json::object{{"domain", "web01"}}));

  const auto notification = parse_message(format_notification("heartbeat", {{"running", 2}}));
  ASSERT_TRUE(notification);
  EXPECT_EQ(std::get<Notification>(*notification).method, "heartbeat");
  EXPECT_EQ(std::get<Notification>(*notification).params, (json::object{{"running", 2}}));

  const auto result = parse_message(format_result(8, {{"size", 3}}));
  ASSERT_TRUE(result);
  EXPECT_EQ(std::get<Answer>(*result).id, 8);
  EXPECT_EQ(std::get<Answer>(*result).result.value(), (json::object{{"size", 3}}));

  for (const std::optional<std::int64_t> id : {std::optional<std::int64_t>(9), {}}) {
    const auto failure = parse_message(format_failure({ErrorCode::busy, "too\nmuch", id}));
    ASSERT_TRUE(failure);
    const auto& answer = std::get<Answer>(*failure);
    EXPECT_EQ(answer.id, id);
    ASSERT_FALSE(answer.result);
    EXPECT_EQ(answer.result.error().code, ErrorCode::busy);
    EXPECT_EQ(answer.result.error().text, "too?much");
  }
}

TEST(Protocol, IsOneLineAMessage) {
  const std::string line = format_request(1, "look", {{"domain", "a\nb"}});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(Protocol, RefusesWhatIsNoObject) {
  for (const char* line : {"hello", "{", "[]", "7", "null", R"([{"jsonrpc":"2.0"}])", "{}{}",
                           "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\xff\"}"}) {
    EXPECT_EQ(code_of(line), ErrorCode::parse) << line;
  }
  EXPECT_EQ(code_of(std::string(100, '[')), ErrorCode::parse);
  EXPECT_EQ(code_of(R"({"a":)" + std::string(50, '[') + std::string(50, ']') + "}"),
            ErrorCode::parse);
  std::string many = R"({"a":[0)";
  for (int i = 0; i < 1'100'000; ++i) {
    many += ",0";
  }
  EXPECT_EQ(code_of(many + "]}"), ErrorCode::parse);
}

TEST(Protocol, RefusesEachFieldThatIsWrong) {
  for (const char* line : {
           R"({"id":1,"method":"a"})",
           R"({"jsonrpc":2.0,"id":1,"method":"a"})",
           R"({"jsonrpc":"1.0","id":1,"method":"a"})",
           R"({"jsonrpc":"2.0","id":"1","method":"a"})",
           R"({"jsonrpc":"2.0","id":1.5,"method":"a"})",
           R"({"jsonrpc":"2.0","id":0,"method":"a"})",
           R"({"jsonrpc":"2.0","id":-1,"method":"a"})",
           R"({"jsonrpc":"2.0","id":9007199254740992,"method":"a"})",
           R"({"jsonrpc":"2.0","id":null,"method":"a"})",
           R"({"jsonrpc":"2.0","id":1,"method":7})",
           R"({"jsonrpc":"2.0","id":1,"method":""})",
           R"({"jsonrpc":"2.0","id":1,"method":"a","params":[]})",
           R"({"jsonrpc":"2.0","id":1,"method":"a","params":null})",
           R"({"jsonrpc":"2.0","id":1})",
           R"({"jsonrpc":"2.0","id":1,"result":{},"error":{"code":-1,"message":""}})",
           R"({"jsonrpc":"2.0","id":1,"result":[]})",
           R"({"jsonrpc":"2.0","result":{}})",
           R"({"jsonrpc":"2.0","id":1,"error":"no"})",
           R"({"jsonrpc":"2.0","id":1,"error":{"message":"no"}})",
           R"({"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"no"}})",
           R"({"jsonrpc":"2.0","id":1,"error":{"code":1}})",
       }) {
    EXPECT_EQ(code_of(line), ErrorCode::invalid_request) << line;
  }
  const std::string long_method(65, 'm');
  EXPECT_EQ(code_of(R"({"jsonrpc":"2.0","id":1,"method":")" + long_method + "\"}"),
            ErrorCode::invalid_request);
}

TEST(Protocol, TellsWhichRequestIsWrong) {
  const auto wrong = parse_message(R"({"jsonrpc":"2.0","id":12,"method":"a","params":1})");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().id, 12);
}

TEST(Printable, KeepsTextAndNothingThatATerminalObeys) {
  EXPECT_EQ(printable("web01"), "web01");
  EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
            "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(printable("a\x1b[2J\r\n\x7f"), "a?[2J???");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J"),
            "?2J");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a?b");
}

TEST(Printable, IsAlwaysUtf8) {
  for (const char* text :
       {"\xff", "\xc0\xaf", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf0\x80\x80\x80", "\xe0\x80\x80", "\x80", "\xc3\x28", "\xf8\x88\x80\x80\x80"}) {
    boost::system::error_code ec;
    json::parse(json::serialize(json::value(printable(text))), ec);
    EXPECT_FALSE(ec) << testing::PrintToString(text);
    EXPECT_THAT(printable(text), testing::StartsWith("?"));
  }
}

TEST(Printable, IsCutBetweenCharacters) {
  EXPECT_EQ(printable("abc", 2), "ab");
  EXPECT_EQ(printable("a\xc3\xbc", 2), "a");
  EXPECT_EQ(printable("", 2), "");
}

TEST(Printable, ReachesEachTextOfAValue) {
  const json::value value{{"a\x1b", json::array{"b\n", 1, nullptr, json::object{{"c", "d\x07"}}}}};
  EXPECT_EQ(printable_value(value),
            (json::value{{"a?", json::array{"b?", 1, nullptr, json::object{{"c", "d?"}}}}}));
}

std::vector<std::string> split(LineSplitter& lines, std::string_view bytes, bool fine = true) {
  std::vector<std::string> seen;
  EXPECT_EQ(lines.feed(bytes,
                       [&](std::string_view line) {
                         seen.emplace_back(line);
                         return true;
                       }),
            fine);
  return seen;
}

TEST(LineSplitter, PutsPiecesTogether) {
  LineSplitter lines(10);
  EXPECT_THAT(split(lines, "ab"), ElementsAre());
  EXPECT_THAT(split(lines, "c\n\nde\nf"), ElementsAre("abc", "de"));
  EXPECT_EQ(lines.rest(), "f");
  EXPECT_THAT(split(lines, "\n"), ElementsAre("f"));
}

TEST(LineSplitter, FailsPastItsLimit) {
  LineSplitter lines(3);
  EXPECT_THAT(split(lines, "abc\nabc"), ElementsAre("abc"));
  EXPECT_THAT(split(lines, "d", false), ElementsAre());
}

TEST(LineSplitter, CutsPastItsLimitWhenAsked) {
  LineSplitter lines(3, LineSplitter::TooLong::cut);
  EXPECT_THAT(split(lines, "abcd"), ElementsAre());
  EXPECT_THAT(split(lines, "efg\nhi\n"), ElementsAre("abc", "hi"));
}

TEST(LineSplitter, EndsWhenItsReaderSaysSo) {
  LineSplitter lines(10);
  int seen = 0;
  EXPECT_FALSE(lines.feed("a\nb\n", [&](std::string_view) { return ++seen < 1; }));
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace vpatch::serve
