// SPDX-License-Identifier: Apache-2.0
#include "client_fixture.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

constexpr MessageLimits kSmall{.max_bytes = 1000, .max_depth = 8, .max_values = 50};

class ClientHostileTest : public ClientTest {
 protected:
  /// Opens a connection with a command outstanding, sends `bytes`, and gives what the command met.
  std::optional<Errc> outcome_of(std::string_view bytes) {
    open(kSmall);
    execute("query-status", answer_);
    peer().read_command();
    peer().send(bytes);
    run_until([this] { return !closed_.empty(); });
    EXPECT_EQ(answer_.calls, 1);
    EXPECT_EQ(closed_.front().code, answer_.code());
    EXPECT_FALSE(client_->is_open());
    return answer_.code();
  }

  Answer answer_;
};

TEST_F(ClientHostileTest, LineOverTheCapIsTooLarge) {
  EXPECT_EQ(outcome_of("{\"return\": \"" + std::string(2000, 'x') + "\"}\r\n"), Errc::too_large);
}

TEST_F(ClientHostileTest, EndlessLineIsTooLargeBeforeItEnds) {
  EXPECT_EQ(outcome_of(std::string(1001, ' ')), Errc::too_large);
}

TEST_F(ClientHostileTest, TooManyValuesAreTooLarge) {
  std::string list = "[";
  for (int i = 0; i < 60; ++i) {
    list += "0,";
  }
  EXPECT_EQ(outcome_of(list + "0]\r\n"), Errc::too_large);
}

TEST_F(ClientHostileTest, DeepNestingIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": " + std::string(20, '[') + std::string(20, ']') + "}\r\n"),
            Errc::protocol);
}

TEST_F(ClientHostileTest, GarbageIsAProtocolErrorShownInPrintableForm) {
  EXPECT_EQ(outcome_of("\x1b[2Jhello\xFF\r\n"), Errc::protocol);
  EXPECT_THAT(answer_.what(), HasSubstr("?[2Jhello?"));
}

TEST_F(ClientHostileTest, MessageThatIsNoObjectIsAProtocolError) {
  EXPECT_EQ(outcome_of("[]\r\n"), Errc::protocol);
}

TEST_F(ClientHostileTest, ReplyToAnUnknownIdIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": {}, \"id\": 4711}\r\n"), Errc::protocol);
  EXPECT_THAT(answer_.what(), HasSubstr("4711"));
}

TEST_F(ClientHostileTest, ReplyWithAnIdOfAnotherTypeIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": {}, \"id\": \"2\"}\r\n"), Errc::protocol);
}

TEST_F(ClientHostileTest, ReplyWithAHugeIdIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": {}, \"id\": 18446744073709551615}\r\n"), Errc::protocol);
}

TEST_F(ClientHostileTest, ErrorWithoutAnIdIsAProtocolErrorWithItsText) {
  EXPECT_EQ(
      outcome_of("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n"),
      Errc::protocol);
  EXPECT_THAT(answer_.what(), HasSubstr("JSON parse error"));
}

TEST_F(ClientHostileTest, ReplyWithBothOutcomesIsAProtocolError) {
  EXPECT_EQ(
      outcome_of("{\"return\": {}, \"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": 2}\r\n"),
      Errc::protocol);
}

TEST_F(ClientHostileTest, ErrorOfAnotherShapeIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"error\": [], \"id\": 2}\r\n"), Errc::protocol);
}

TEST_F(ClientHostileTest, ErrorWithoutADescriptionIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"error\": {\"class\": \"GenericError\", \"desc\": 1}, \"id\": 2}\r\n"),
            Errc::protocol);
}

TEST_F(ClientHostileTest, EventWithoutATimestampIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"event\": \"STOP\"}\r\n"), Errc::protocol);
}

TEST_F(ClientHostileTest, EventWithAHugeTimestampIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 9223372036854775807, "
                       "\"microseconds\": 0}}\r\n"),
            Errc::protocol);
}

TEST_F(ClientHostileTest, EventWithANameOfAnotherTypeIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"event\": {}, \"timestamp\": {\"seconds\": 1, \"microseconds\": 0}}\r\n"),
            Errc::protocol);
}

TEST_F(ClientHostileTest, NothingAfterABrokenMessageIsRead) {
  EXPECT_EQ(
      outcome_of(
          "{]\r\n{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 0}}\r\n"),
      Errc::protocol);
  EXPECT_TRUE(events_.empty());
}

TEST_F(ClientHostileTest, EmptyLinesAreSkipped) {
  open(kSmall);
  execute("query-status", answer_);
  peer().send("\r\n\n\r\n");
  peer().answer("query-status");
  run_until(answer_);
  EXPECT_TRUE(answer_.succeeded());
}

TEST_F(ClientHostileTest, PeerThatNeverAnswersIsSentNoMoreAtSomePoint) {
  open();
  const std::jthread reader([this] {
    while (!peer().read_line().empty()) {
    }
  });
  std::optional<Errc> last = Errc::cancelled;
  for (int i = 0; i < 5000 && last == Errc::cancelled; ++i) {
    std::stop_source stop;
    Answer answer;
    execute("query-status", answer, {.timeout = kPatient.timeout, .stop = stop.get_token()});
    stop.request_stop();
    run_until(answer);
    last = answer.code();
  }
  EXPECT_EQ(last, Errc::argument);
  client_->close();
}

}  // namespace
}  // namespace vpatch::qmp
