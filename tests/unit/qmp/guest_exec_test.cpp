// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "qmp/base64.h"
#include "qmp/guest_agent.h"
#include "qmp/socket_channel.h"
#include "scripted_channel.h"

namespace vpatch::qmp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GuestExecTest : public testing::Test {
 protected:
  Result<ExecResult> exec(const CallOptions& options = kPatient) {
    return agent_.exec({.path = "insmod", .arguments = {"/run/patch.ko"}}, options);
  }

  ScriptedChannel channel_;
  GuestAgent agent_{channel_};
};

TEST_F(GuestExecTest, PollsUntilTheEndAndDecodesTheOutputs) {
  channel_.then(R"({"pid": 42})")
      .then(R"({"exited": false})")
      .then(R"({"exited": false})")
      .then(R"({"exited": true, "exitcode": 0, "out-data": "aGk=", "err-data": "AP8="})");
  const auto result = exec();
  ASSERT_TRUE(result.has_value()) << result.error().what;
  EXPECT_TRUE(result->ok());
  EXPECT_EQ(result->out, "hi");
  EXPECT_EQ(result->err, std::string("\0\xFF", 2));
  EXPECT_FALSE(result->signal.has_value());
  EXPECT_FALSE(result->truncated);
  EXPECT_THAT(channel_.commands(), ElementsAre("guest-exec", "guest-exec-status",
                                               "guest-exec-status", "guest-exec-status"));
  EXPECT_EQ(channel_.sent[3].arguments.at("pid").as_int64(), 42);
}

TEST_F(GuestExecTest, SendsPathArgumentsAndInput) {
  channel_.then(R"({"pid": 1})").then(R"({"exited": true, "exitcode": 0})");
  ASSERT_TRUE(agent_.exec({.path = "/bin/cat", .arguments = {"-n", "-"}, .input = "a\n"}, kPatient)
                  .has_value());
  EXPECT_EQ(
      boost::json::value(channel_.sent[0].arguments),
      boost::json::parse(
          R"({"path": "/bin/cat", "arg": ["-n", "-"], "capture-output": true, "input-data": "YQo="})"));
}

TEST_F(GuestExecTest, OneArgumentStaysAList) {
  channel_.then(R"({"pid": 1})").then(R"({"exited": true, "exitcode": 0})");
  ASSERT_TRUE(exec().has_value());
  EXPECT_EQ(boost::json::value(channel_.sent[0].arguments),
            boost::json::parse(
                R"({"path": "insmod", "arg": ["/run/patch.ko"], "capture-output": true})"));
}

TEST_F(GuestExecTest, ReportsASignal) {
  channel_.then(R"({"pid": 1})").then(R"({"exited": true, "signal": 9})");
  const auto result = exec();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->signal, 9);
  EXPECT_FALSE(result->exit_code.has_value());
  EXPECT_FALSE(result->ok());
}

TEST_F(GuestExecTest, ReportsAFailureOfTheProgram) {
  channel_.then(R"({"pid": 1})").then(R"({"exited": true, "exitcode": 255})");
  EXPECT_EQ(exec()->exit_code, 255);
}

TEST_F(GuestExecTest, ReportsATruncatedOutput) {
  channel_.then(R"({"pid": 1})").then(R"({"exited": true, "exitcode": 0, "err-truncated": true})");
  EXPECT_TRUE(exec()->truncated);
}

TEST_F(GuestExecTest, OutputOverTheCapIsTooLarge) {
  const std::string text(base64_length(std::size_t{16} << 20) + 4, 'A');
  channel_.then(R"({"pid": 1})")
      .then(R"({"exited": true, "exitcode": 0, "out-data": ")" + text + "\"}");
  EXPECT_EQ(exec().error().code, Errc::too_large);
}

TEST_F(GuestExecTest, InputOverTheCapIsRefusedUnsent) {
  EXPECT_EQ(
      agent_.exec({.path = "cat", .arguments = {}, .input = std::string(9U << 20U, 'x')}, kPatient)
          .error()
          .code,
      Errc::argument);
  EXPECT_TRUE(channel_.sent.empty());
}

TEST_F(GuestExecTest, ProgramThatDoesNotEndTimesOutAndIsNamed) {
  channel_.then(R"({"pid": 42})");
  for (int i = 0; i < 100; ++i) {
    channel_.then(R"({"exited": false})");
  }
  const auto result = exec(kHasty);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::timeout);
  EXPECT_THAT(result.error().what, HasSubstr("42"));
}

TEST_F(GuestExecTest, PollsHaveWhatIsLeftOfTheTimeout) {
  channel_.then(R"({"pid": 1})")
      .then(R"({"exited": false})")
      .then(R"({"exited": true, "exitcode": 0})");
  ASSERT_TRUE(exec().has_value());
  EXPECT_LT(channel_.sent[1].options.timeout, kPatient.timeout);
  EXPECT_LE(channel_.sent[2].options.timeout, channel_.sent[1].options.timeout);
}

TEST_F(GuestExecTest, StopTokenEndsTheWaitBetweenPolls) {
  std::stop_source stop;
  stop.request_stop();
  channel_.then(R"({"pid": 42})");
  const auto result = exec({.timeout = kPatient.timeout, .stop = stop.get_token()});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::cancelled);
  EXPECT_EQ(channel_.sent.size(), 1U);
}

TEST_F(GuestExecTest, DisabledExecIsExplained) {
  channel_.then_fail(Errc::command, "guest-exec: Command guest-exec has been disabled",
                     "CommandNotFound");
  const auto result = exec();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::command);
  EXPECT_THAT(result.error().what, HasSubstr("configuration blocks"));
}

class GuestExecPidTest : public GuestExecTest, public testing::WithParamInterface<const char*> {};

TEST_P(GuestExecPidTest, WrongPidIsAProtocolError) {
  channel_.then(GetParam());
  EXPECT_EQ(exec().error().code, Errc::protocol);
  EXPECT_EQ(channel_.sent.size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Replies, GuestExecPidTest,
                         testing::Values("42", "{}", R"({"pid": 0})", R"({"pid": -7})",
                                         R"({"pid": "42"})", R"({"pid": 1e9})",
                                         R"({"pid": 18446744073709551615})"));

class GuestExecStatusTest : public GuestExecTest,
                            public testing::WithParamInterface<const char*> {};

TEST_P(GuestExecStatusTest, WrongStatusIsAProtocolError) {
  channel_.then(R"({"pid": 1})").then(GetParam());
  const auto result = exec();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::protocol);
}

INSTANTIATE_TEST_SUITE_P(
    Replies, GuestExecStatusTest,
    testing::Values("true", "{}", R"({"exited": 1})", R"({"exited": "true"})",
                    R"({"exited": true})", R"({"exited": true, "exitcode": "0"})",
                    R"({"exited": true, "exitcode": -1})",
                    R"({"exited": true, "exitcode": 2147483648})",
                    R"({"exited": true, "exitcode": 0, "signal": 9})",
                    R"({"exited": true, "signal": 0})", R"({"exited": true, "signal": 4096})",
                    R"({"exited": true, "exitcode": 0, "out-data": "a"})",
                    R"({"exited": true, "exitcode": 0, "out-data": "YQ==YQ=="})",
                    R"({"exited": true, "exitcode": 0, "out-data": "aGk=\n"})",
                    R"({"exited": true, "exitcode": 0, "err-data": {}})",
                    R"({"exited": true, "exitcode": 0, "out-truncated": 1})"));

TEST(GuestExecOverSocketTest, StopTokenFromAnotherThreadEndsTheWaitForTheProgram) {
  Connection connection;
  std::stop_source stop;
  const Script script([&] {
    connection.peer.synchronise();
    connection.peer.answer("guest-exec", R"({"pid": 42})");
    connection.peer.answer("guest-exec-status", R"({"exited": false})");
    stop.request_stop();
    while (!connection.peer.read_line().empty()) {
    }
  });
  auto channel = AgentChannel::adopt(connection.ours, kPatient);
  ASSERT_TRUE(channel.has_value()) << channel.error().what;
  const auto result = GuestAgent(**channel).exec(
      {.path = "sleep", .arguments = {}}, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::cancelled);
  channel->reset();
}

}  // namespace
}  // namespace vpatch::qmp
