// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "agent_fixture.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

TEST_F(AgentChannelTest, ConnectsToASocketAndSynchronises) {
  Listener listener;
  const Script script([&listener] {
    FakePeer agent = listener.accept();
    agent.synchronise();
    agent.answer("guest-ping");
  });
  const auto channel = AgentChannel::connect(listener.path(), kPatient);
  ASSERT_TRUE(channel.has_value()) << channel.error().what;
  EXPECT_TRUE((*channel)->execute("guest-ping", {}, kPatient).has_value());
}

TEST_F(AgentChannelTest, MissingSocketIsAConnectError) {
  const auto channel = AgentChannel::connect("/nonexistent/socket", kPatient);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::connect);
  EXPECT_EQ(channel.error().sys_errno, ENOENT);
}

TEST_F(AgentChannelTest, QueueThatStaysFullTimesOut) {
  Listener listener(0);
  listener.fill_queue();
  const auto channel = AgentChannel::connect(listener.path(), kHasty);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::timeout);
  EXPECT_THAT(channel.error().what, HasSubstr("queue"));
}

TEST_F(AgentChannelTest, SilentAgentTimesOutAndSaysWhatMayBeWrong) {
  const auto channel = AgentChannel::adopt(connection_.ours, kHasty);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::timeout);
  EXPECT_THAT(channel.error().what, HasSubstr("guest agent is not running"));
  EXPECT_THAT(channel.error().what, HasSubstr("another program holds the agent's socket"));
}

TEST_F(AgentChannelTest, StaleBytesBeforeTheSynchronisationAreDropped) {
  const Script script([this] {
    peer().synchronise(
        "{\"return\": {}}\n{\"error\": {\"class\": \"GenericError\"}}\n{\"return\": \"half a li");
    peer().answer("guest-ping", "\"fresh\"");
  });
  const auto channel = AgentChannel::adopt(connection_.ours, kPatient);
  ASSERT_TRUE(channel.has_value()) << channel.error().what;
  EXPECT_EQ(*(*channel)->execute("guest-ping", {}, kPatient), boost::json::value("fresh"));
}

TEST_F(AgentChannelTest, AnswerToAnotherSynchronisationIsDropped) {
  const Script script([this] {
    peer().synchronise("\xFF{\"return\": 1}\n\xFFnonsense\n");
    peer().answer("guest-ping");
  });
  auto channel = AgentChannel::adopt(connection_.ours, kPatient);
  ASSERT_TRUE(channel.has_value()) << channel.error().what;
  EXPECT_TRUE((*channel)->execute("guest-ping", {}, kPatient).has_value());
}

TEST_F(AgentChannelTest, SendsNoIds) {
  open();
  const Script script([this] {
    EXPECT_FALSE(peer().read_command().contains("id"));
    peer().reply({}, "{}");
  });
  EXPECT_TRUE(execute("guest-ping").has_value());
}

TEST_F(AgentChannelTest, CommandAfterACommandNeedsNoSynchronisation) {
  open();
  expect_usable(false);
  expect_usable(false);
}

TEST_F(AgentChannelTest, LateReplyAfterTimeoutIsNotTakenForTheNextCommands) {
  open();
  ASSERT_EQ(execute("guest-slow", kHasty).error().code, Errc::timeout);
  EXPECT_EQ(peer().read_command().at("execute").as_string(), "guest-slow");
  expect_usable(true, "{\"return\": \"late\"}\n");
}

TEST_F(AgentChannelTest, LateReplyThatCameBetweenCallsIsDropped) {
  open();
  ASSERT_EQ(execute("guest-slow", kHasty).error().code, Errc::timeout);
  peer().read_command();
  peer().send("{\"return\": \"late\"}\n");
  expect_usable(true);
}

TEST_F(AgentChannelTest, StopTokenFromAnotherThreadCancelsAndTheNextCallSynchronises) {
  open();
  std::stop_source stop;
  {
    const Script script([&] {
      peer().read_command();
      stop.request_stop();
    });
    const auto reply =
        execute("guest-slow", {.timeout = kPatient.timeout, .stop = stop.get_token()});
    ASSERT_FALSE(reply.has_value());
    EXPECT_EQ(reply.error().code, Errc::cancelled);
  }
  expect_usable(true);
}

TEST_F(AgentChannelTest, ExpiredOptionsSendNothingAndCostNoSynchronisation) {
  open();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(
      execute("guest-ping", {.timeout = kPatient.timeout, .stop = stop.get_token()}).error().code,
      Errc::cancelled);
  expect_usable(false);
}

TEST_F(AgentChannelTest, UnsentRestOfACancelledCommandIsNotSent) {
  open();
  const std::string text(4U << 20U, 'x');  // more than the socket takes
  const auto reply = channel_->execute("guest-file-write", {{"buf-b64", text}}, kHasty);
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, Errc::timeout);
  std::string received;
  {
    const Script script([&] {
      received = peer().read_line();
      const std::size_t sentinel = received.find('\xFF');
      const auto sync = boost::json::parse(received.substr(sentinel + 1));
      peer().send("\xFF{\"return\": " + boost::json::serialize(sync.at("arguments").at("id")) +
                  "}\n");
      peer().answer("guest-next");
    });
    EXPECT_TRUE(execute("guest-next").has_value());
  }
  EXPECT_TRUE(received.starts_with("{\"execute\":\"guest-file-write\""));
  EXPECT_LT(received.find('\xFF'), text.size());
}

TEST_F(AgentChannelTest, AgentsErrorLeavesTheChannelInStep) {
  open();
  {
    const Script script([this] {
      peer().read_command();
      peer().send(
          "{\"error\": {\"class\": \"GenericError\", \"desc\": \"No such file or directory\"}}\n");
    });
    const auto reply = execute("guest-file-open");
    ASSERT_FALSE(reply.has_value());
    EXPECT_EQ(reply.error().code, Errc::command);
    EXPECT_THAT(reply.error().what, HasSubstr("No such file"));
  }
  expect_usable(false);
}

TEST_F(AgentChannelTest, HangUpIsClosedAndStaysClosed) {
  open();
  {
    const Script script([this] {
      peer().read_command();
      peer().hang_up();
    });
    const auto reply = execute("guest-ping");
    ASSERT_FALSE(reply.has_value());
    EXPECT_EQ(reply.error().code, Errc::closed);
  }
  EXPECT_EQ(execute("guest-ping").error().code, Errc::closed);
}

TEST_F(AgentChannelTest, ArgumentsThatAreNotUtf8AreRefusedUnsent) {
  open();
  const auto reply = channel_->execute("guest-file-open", {{"path", "/tmp/\xC3("}}, kPatient);
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, Errc::argument);
  expect_usable(false);
}

}  // namespace
}  // namespace vpatch::qmp
