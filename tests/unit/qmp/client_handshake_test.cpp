// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "client_fixture.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

using ClientHandshakeTest = ClientTest;

TEST_F(ClientHandshakeTest, GivesTheGreetingWhenNegotiated) {
  open();
  EXPECT_EQ(connected_.value().at("version").at("qemu").at("major").as_int64(), 7);
  EXPECT_TRUE(client_->is_open());
}

TEST_F(ClientHandshakeTest, ConnectsToAListeningSocket) {
  Listener listener;
  make_client();
  client_->async_connect(listener.path(), kPatient, connected_.handler());
  drain();
  FakePeer accepted = listener.accept();
  accepted.send(kGreeting);
  drain();
  accepted.answer("qmp_capabilities");
  run_until_connected();
  EXPECT_TRUE(connected_.succeeded());
}

TEST_F(ClientHandshakeTest, AcceptsAGreetingInPieces) {
  begin();
  for (const char c : kGreeting) {
    peer().send({&c, 1});
    drain();
  }
  peer().answer("qmp_capabilities");
  run_until_connected();
  EXPECT_TRUE(connected_.succeeded());
}

TEST_F(ClientHandshakeTest, DeliversEventsThatComeDuringNegotiation) {
  begin();
  peer().send(kGreeting);
  drain();
  peer().send("{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 5, \"microseconds\": 7}}\r\n");
  peer().answer("qmp_capabilities");
  run_until_connected();
  ASSERT_EQ(events_.size(), 1U);
  EXPECT_EQ(events_[0].name, "STOP");
}

TEST_F(ClientHandshakeTest, MissingSocketIsAConnectErrorWithErrno) {
  make_client();
  client_->async_connect("/nonexistent/socket", kPatient, connected_.handler());
  EXPECT_FALSE(connected_.came());
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::connect);
  EXPECT_EQ(connected_.result.error().sys_errno, ENOENT);
  EXPECT_THAT(connected_.what(), HasSubstr("/nonexistent/socket"));
}

TEST_F(ClientHandshakeTest, OverlongPathIsRefusedAsAnArgument) {
  make_client();
  client_->async_connect("/tmp/" + std::string(200, 'x'), kPatient, connected_.handler());
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::argument);
}

TEST_F(ClientHandshakeTest, SilentMonitorTimesOutAndHintsAtAnotherProgram) {
  begin(kHasty);
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::timeout);
  EXPECT_THAT(connected_.what(), HasSubstr("another program"));
  EXPECT_FALSE(client_->is_open());
}

TEST_F(ClientHandshakeTest, UnansweredNegotiationTimesOut) {
  begin(kHasty);
  peer().send(kGreeting);
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::timeout);
  EXPECT_THAT(connected_.what(), HasSubstr("qmp_capabilities"));
  drain();
  EXPECT_EQ(connected_.calls, 1);
}

TEST_F(ClientHandshakeTest, StopTokenCancelsTheHandshake) {
  std::stop_source stop;
  begin({.timeout = kPatient.timeout, .stop = stop.get_token()});
  stop.request_stop();
  EXPECT_FALSE(connected_.came());
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::cancelled);
}

TEST_F(ClientHandshakeTest, TokenThatFiresAfterTheHandshakeDoesNothing) {
  std::stop_source stop;
  begin({.timeout = kPatient.timeout, .stop = stop.get_token()});
  peer().send(kGreeting);
  drain();
  peer().answer("qmp_capabilities");
  run_until_connected();
  stop.request_stop();
  drain();
  EXPECT_TRUE(client_->is_open());
  EXPECT_EQ(connected_.calls, 1);
}

TEST_F(ClientHandshakeTest, TokenThatFiredBeforeCancelsAtOnce) {
  std::stop_source stop;
  stop.request_stop();
  begin({.timeout = kPatient.timeout, .stop = stop.get_token()});
  EXPECT_FALSE(connected_.came());
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::cancelled);
  EXPECT_EQ(peer().read_line(), "");
}

TEST_F(ClientHandshakeTest, RefusedNegotiationGivesTheMonitorsError) {
  begin();
  peer().send(kGreeting);
  drain();
  const auto command = peer().read_command();
  peer().send("{\"error\": {\"class\": \"GenericError\", \"desc\": \"not today\"}, \"id\": " +
              boost::json::serialize(command.at("id")) + "}\r\n");
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::command);
  EXPECT_THAT(connected_.what(), HasSubstr("not today"));
}

TEST_F(ClientHandshakeTest, HangUpBeforeTheGreetingIsClosed) {
  begin();
  peer().hang_up();
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::closed);
}

TEST_F(ClientHandshakeTest, FirstMessageThatIsNoGreetingIsAProtocolError) {
  begin();
  peer().send("{\"return\": {}}\r\n");
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::protocol);
}

TEST_F(ClientHandshakeTest, SecondConnectIsRefusedAndLeavesTheFirstAlone) {
  open();
  Connection other;
  Told<boost::json::object> second;
  client_->async_adopt(other.ours, kPatient, second.handler());
  run_until([&] { return second.came(); });
  EXPECT_EQ(second.code(), Errc::argument);
  EXPECT_EQ(other.peer.read_line(), "");
  Answer answer;
  execute("query-status", answer);
  peer().answer("query-status");
  run_until(answer);
  EXPECT_TRUE(answer.succeeded());
}

TEST_F(ClientHandshakeTest, WaitsWhileTheListenersQueueIsFull) {
  Listener listener(0);
  listener.fill_queue();
  make_client();
  client_->async_connect(listener.path(), kPatient, connected_.handler());
  drain();
  EXPECT_FALSE(connected_.came());
  listener.empty_queue();
  run_until([&] { return listener.has_waiting(); });
  FakePeer accepted = listener.accept();
  accepted.hang_up();
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::closed);
}

TEST_F(ClientHandshakeTest, QueueThatStaysFullTimesOut) {
  Listener listener(0);
  listener.fill_queue();
  make_client();
  client_->async_connect(listener.path(), kHasty, connected_.handler());
  run_until_connected();
  EXPECT_EQ(connected_.code(), Errc::timeout);
  EXPECT_THAT(connected_.what(), HasSubstr("queue"));
}

TEST_F(ClientHandshakeTest, DestroyingTheClientTellsTheConnectHandler) {
  begin();
  client_.reset();
  EXPECT_FALSE(connected_.came());
  drain();
  EXPECT_EQ(connected_.calls, 1);
  EXPECT_EQ(connected_.code(), Errc::closed);
}

}  // namespace
}  // namespace vpatch::qmp
