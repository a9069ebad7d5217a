// SPDX-License-Identifier: Apache-2.0
#include "qmp/guest_agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "scripted_channel.h"

namespace vpatch::qmp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GuestAgentTest : public testing::Test {
 protected:
  ScriptedChannel channel_;
  GuestAgent agent_{channel_};
};

TEST_F(GuestAgentTest, PingSendsGuestPing) {
  channel_.then("{}");
  EXPECT_TRUE(agent_.ping(kPatient).has_value());
  EXPECT_THAT(channel_.commands(), ElementsAre("guest-ping"));
}

TEST_F(GuestAgentTest, PingPassesFailuresOn) {
  channel_.then_fail(Errc::timeout);
  EXPECT_EQ(agent_.ping(kPatient).error().code, Errc::timeout);
}

TEST_F(GuestAgentTest, InfoTellsVersionAndWhatIsAllowed) {
  channel_.then(R"({"version": "7.2.0", "supported_commands": [
      {"name": "guest-exec", "enabled": false, "success-response": true},
      {"name": "guest-ping", "enabled": true, "success-response": true}]})");
  const auto info = agent_.info(kPatient);
  ASSERT_TRUE(info.has_value()) << info.error().what;
  EXPECT_EQ(info->version, "7.2.0");
  EXPECT_TRUE(info->allows("guest-ping"));
  EXPECT_FALSE(info->allows("guest-exec"));
  EXPECT_FALSE(info->allows("guest-unknown"));
}

TEST_F(GuestAgentTest, DisabledCommandIsExplained) {
  channel_.then_fail(Errc::command, "guest-ping: Command guest-ping has been disabled",
                     "CommandNotFound");
  const auto reply = agent_.ping(kPatient);
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, Errc::command);
  EXPECT_EQ(reply.error().error_class, "CommandNotFound");
  EXPECT_THAT(reply.error().what, HasSubstr("the guest agent's configuration blocks this command"));
  EXPECT_THAT(reply.error().what, HasSubstr("guest-ping has been disabled"));
}

TEST_F(GuestAgentTest, UnknownCommandIsExplained) {
  channel_.then_fail(Errc::command, "guest-ping: The command guest-ping has not been found",
                     "CommandNotFound");
  EXPECT_THAT(agent_.ping(kPatient).error().what, HasSubstr("does not have this command"));
}

class GuestInfoHostileTest : public GuestAgentTest,
                             public testing::WithParamInterface<const char*> {};

TEST_P(GuestInfoHostileTest, WrongReplyIsAProtocolError) {
  channel_.then(GetParam());
  const auto info = agent_.info(kPatient);
  ASSERT_FALSE(info.has_value());
  EXPECT_EQ(info.error().code, Errc::protocol);
}

INSTANTIATE_TEST_SUITE_P(
    Replies, GuestInfoHostileTest,
    testing::Values("null", "[]", "{}", R"({"version": 7, "supported_commands": []})",
                    R"({"version": "7"})", R"({"version": "7", "supported_commands": {}})",
                    R"({"version": "7", "supported_commands": [null]})",
                    R"({"version": "7", "supported_commands": [{"name": 1, "enabled": true}]})",
                    R"({"version": "7", "supported_commands": [{"name": "a"}]})",
                    R"({"version": "7", "supported_commands": [{"name": "a", "enabled": 1}]})"));

TEST_F(GuestAgentTest, InfoRefusesAnEndlessName) {
  channel_.then(R"({"version": "7", "supported_commands": [{"enabled": true, "name": ")" +
                std::string(1000, 'a') + R"("}]})");
  EXPECT_EQ(agent_.info(kPatient).error().code, Errc::protocol);
}

TEST_F(GuestAgentTest, InfoMakesTheVersionPrintable) {
  channel_.then(R"({"version": "7\u001b[2J", "supported_commands": []})");
  EXPECT_EQ(agent_.info(kPatient)->version, "7?[2J");
}

}  // namespace
}  // namespace vpatch::qmp
