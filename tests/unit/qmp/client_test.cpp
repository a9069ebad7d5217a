// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "client_fixture.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

using ClientCommandTest = ClientTest;

constexpr std::string_view kStopEvent =
    "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 714807}, \"event\": \"STOP\"}\r\n";

TEST_F(ClientCommandTest, SendsCommandAndArgumentsAndGivesTheReturnValue) {
  open();
  Answer answer;
  client_->async_execute("qom-get", {{"path", "/machine"}}, kPatient, answer.handler());
  const auto command = peer().read_command();
  EXPECT_EQ(command.at("execute").as_string(), "qom-get");
  EXPECT_EQ(command.at("arguments").at("path").as_string(), "/machine");
  peer().reply(command.at("id"), "[1, \"two\"]");
  run_until(answer);
  EXPECT_EQ(boost::json::serialize(answer.value()), "[1,\"two\"]");
}

TEST_F(ClientCommandTest, LeavesOutEmptyArguments) {
  open();
  Answer answer;
  execute("stop", answer);
  EXPECT_FALSE(peer().read_command().contains("arguments"));
}

TEST_F(ClientCommandTest, MatchesRepliesThatComeInAnotherOrder) {
  open();
  Answer first;
  Answer second;
  execute("query-status", first);
  execute("query-name", second);
  const auto first_command = peer().read_command();
  const auto second_command = peer().read_command();
  peer().reply(second_command.at("id"), "\"second\"");
  peer().reply(first_command.at("id"), "\"first\"");
  run_until(first);
  EXPECT_EQ(first.value().as_string(), "first");
  EXPECT_EQ(second.value().as_string(), "second");
}

TEST_F(ClientCommandTest, JoinsAReplyThatComesByteByByte) {
  open();
  Answer answer;
  execute("query-status", answer);
  const auto id = boost::json::serialize(peer().read_command().at("id"));
  for (const char c : "{\"return\": {\"running\": true}, \"id\": " + id + "}\r\n") {
    EXPECT_FALSE(answer.came());
    peer().send({&c, 1});
    drain();
  }
  ASSERT_TRUE(answer.came());
  EXPECT_TRUE(answer.value().at("running").as_bool());
}

TEST_F(ClientCommandTest, GivesTheMonitorsErrorWithItsClass) {
  open();
  Answer answer;
  execute("frobnicate", answer);
  const auto id = boost::json::serialize(peer().read_command().at("id"));
  peer().send(
      "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\\u001b[31m such\"}, \"id\": " +
      id + "}\r\n");
  run_until(answer);
  EXPECT_EQ(answer.code(), Errc::command);
  EXPECT_EQ(answer.result.error().error_class, "CommandNotFound");
  EXPECT_EQ(answer.what(), "frobnicate: no?[31m such");
  EXPECT_TRUE(client_->is_open());
}

TEST_F(ClientCommandTest, DeliversEventsAroundAReplyInOrder) {
  open();
  Answer answer;
  execute("stop", answer);
  const auto command = peer().read_command();
  peer().send(kStopEvent);
  peer().reply(command.at("id"));
  peer().send(
      "{\"event\": \"RESUME\", \"data\": {\"why\": 1}, \"timestamp\": {\"seconds\": 1, "
      "\"microseconds\": 2}}\r\n");
  run_until([this] { return events_.size() == 2; });
  EXPECT_TRUE(answer.came());
  EXPECT_EQ(events_[0].name, "STOP");
  EXPECT_EQ(events_[0].timestamp.count(), 1'700'000'000'714'807);
  EXPECT_TRUE(events_[0].data.empty());
  EXPECT_EQ(events_[1].name, "RESUME");
  EXPECT_EQ(events_[1].data.at("why").as_int64(), 1);
}

TEST_F(ClientCommandTest, EventWithoutAClockHasTimestampZero) {
  open();
  peer().send("{\"event\": \"STOP\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}\r\n");
  run_until([this] { return !events_.empty(); });
  EXPECT_EQ(events_[0].timestamp.count(), 0);
}

TEST_F(ClientCommandTest, DropsLateReplyAfterTimeout) {
  open();
  Answer slow;
  execute("query-slow", slow, kHasty);
  const auto slow_command = peer().read_command();
  run_until(slow);
  EXPECT_EQ(slow.code(), Errc::timeout);

  Answer next;
  execute("query-next", next);
  const auto next_command = peer().read_command();
  peer().reply(slow_command.at("id"), "\"late\"");
  peer().reply(next_command.at("id"), "\"right\"");
  run_until(next);
  EXPECT_EQ(next.value().as_string(), "right");
  EXPECT_EQ(slow.calls, 1);
}

TEST_F(ClientCommandTest, SecondLateReplyIsAProtocolError) {
  open();
  Answer slow;
  execute("query-slow", slow, kHasty);
  const auto command = peer().read_command();
  run_until(slow);
  peer().reply(command.at("id"));
  peer().reply(command.at("id"));
  run_until([this] { return !closed_.empty(); });
  EXPECT_EQ(closed_.front().code, Errc::protocol);
}

TEST_F(ClientCommandTest, StopTokenFromAnotherThreadCancelsInFlight) {
  open();
  std::stop_source stop;
  Answer answer;
  execute("query-status", answer, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  const auto command = peer().read_command();
  const std::jthread other([&stop] { stop.request_stop(); });
  run_until(answer);
  EXPECT_EQ(answer.code(), Errc::cancelled);
  EXPECT_EQ(answer.calls, 1);
  EXPECT_TRUE(client_->is_open());
}

TEST_F(ClientCommandTest, TokenThatFiresAfterTheReplyDoesNothing) {
  open();
  std::stop_source stop;
  Answer answer;
  execute("query-status", answer, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  peer().answer("query-status");
  run_until(answer);
  stop.request_stop();
  drain();
  EXPECT_EQ(answer.calls, 1);
  EXPECT_TRUE(answer.succeeded());
}

TEST_F(ClientCommandTest, ExpiredOptionsSendNothing) {
  open();
  std::stop_source stop;
  stop.request_stop();
  Answer cancelled;
  Answer expired;
  Answer sent;
  execute("first", cancelled, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  execute("second", expired, {.timeout = std::chrono::milliseconds(0), .stop = {}});
  EXPECT_FALSE(cancelled.came() || expired.came());
  execute("third", sent);
  drain();
  EXPECT_EQ(cancelled.code(), Errc::cancelled);
  EXPECT_EQ(expired.code(), Errc::timeout);
  EXPECT_EQ(peer().read_command().at("execute").as_string(), "third");
}

TEST_F(ClientCommandTest, EndlessTimeoutDoesNotOverflow) {
  open();
  Answer answer;
  execute("query-status", answer, {.timeout = std::chrono::milliseconds::max(), .stop = {}});
  drain();
  EXPECT_FALSE(answer.came());
  peer().answer("query-status");
  run_until(answer);
  EXPECT_TRUE(answer.succeeded());
}

TEST_F(ClientCommandTest, HandlersAreNeverCalledFromInsideTheCall) {
  make_client();
  Answer unconnected;
  execute("query-status", unconnected);
  EXPECT_FALSE(unconnected.came());
  run_until(unconnected);
  EXPECT_EQ(unconnected.code(), Errc::argument);
}

TEST_F(ClientCommandTest, CloseFailsWhatIsOutstandingOnce) {
  open();
  Answer first;
  Answer second;
  execute("query-status", first);
  execute("query-name", second);
  client_->close();
  EXPECT_FALSE(first.came());
  client_->close();
  drain();
  EXPECT_EQ(first.code(), Errc::closed);
  EXPECT_EQ(second.code(), Errc::closed);
  EXPECT_EQ(first.calls + second.calls, 2);
  EXPECT_TRUE(closed_.empty());

  Answer after;
  execute("query-status", after);
  run_until(after);
  EXPECT_EQ(after.code(), Errc::closed);
}

TEST_F(ClientCommandTest, HangUpFailsWhatIsOutstandingThenTellsTheClosedHandler) {
  open();
  Answer answer;
  execute("query-status", answer);
  peer().read_command();
  peer().hang_up();
  run_until([this] { return !closed_.empty(); });
  EXPECT_EQ(answer.code(), Errc::closed);
  EXPECT_THAT(answer.what(), HasSubstr("query-status"));
  EXPECT_FALSE(client_->is_open());
}

TEST_F(ClientCommandTest, ReadsWhatCameBeforeTheHangUp) {
  open();
  Answer answer;
  execute("quit", answer);
  const auto command = peer().read_command();
  peer().reply(command.at("id"));
  peer().hang_up();
  Answer unwritable;
  execute("query-status", unwritable);
  run_until(unwritable);
  EXPECT_TRUE(answer.succeeded());
  EXPECT_EQ(unwritable.code(), Errc::closed);
}

TEST_F(ClientCommandTest, HandlerMayDestroyTheClient) {
  open();
  Answer other;
  bool destroyed = false;
  client_->async_execute("first", {}, kPatient, [&](const Client::Reply&) {
    client_.reset();
    destroyed = true;
  });
  execute("second", other);
  const auto first = peer().read_command();
  const auto second = peer().read_command();
  peer().reply(first.at("id"));
  peer().reply(second.at("id"));
  run_until(other);
  EXPECT_TRUE(destroyed);
  EXPECT_EQ(other.code(), Errc::closed);
}

TEST_F(ClientCommandTest, HandlerMaySendTheNextCommand) {
  open();
  Answer next;
  client_->async_execute("first", {}, kPatient,
                         [&](const Client::Reply&) { execute("second", next); });
  peer().answer("first");
  drain();
  peer().answer("second");
  run_until(next);
  EXPECT_TRUE(next.succeeded());
}

TEST_F(ClientCommandTest, SendsACommandLargerThanTheSocketTakes) {
  open();
  Answer answer;
  const std::string text(4U << 20U, 'x');
  client_->async_execute("write", {{"text", text}}, kPatient, answer.handler());
  std::size_t received = 0;
  const std::jthread reader([&] {
    const auto command = peer().read_command();
    received = command.at("arguments").at("text").as_string().size();
    peer().reply(command.at("id"));
  });
  run_until(answer);
  EXPECT_TRUE(answer.succeeded());
  EXPECT_EQ(received, text.size());
}

TEST_F(ClientCommandTest, ArgumentsThatAreNotUtf8AreRefusedUnsent) {
  open();
  Answer bad;
  client_->async_execute("write", {{"text", "\xC3("}}, kPatient, bad.handler());
  run_until(bad);
  EXPECT_EQ(bad.code(), Errc::argument);
  Answer good;
  client_->async_execute("write", {{"text", "\u00e9"}}, kPatient, good.handler());
  EXPECT_EQ(peer().read_command().at("arguments").at("text").as_string(), "\u00e9");
}

}  // namespace
}  // namespace vpatch::qmp
