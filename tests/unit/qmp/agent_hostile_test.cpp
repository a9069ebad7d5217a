// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "agent_fixture.h"

namespace vpatch::qmp {
namespace {

constexpr MessageLimits kSmall{.max_bytes = 1000, .max_depth = 8, .max_values = 50};

class AgentHostileTest : public AgentChannelTest {
 protected:
  /// What a command meets that is answered with `bytes`.
  std::optional<Errc> outcome_of(std::string_view bytes) {
    open(kSmall);
    const Script script([&] {
      peer().read_command();
      peer().send(bytes);
    });
    const auto reply = execute("guest-ping");
    return reply ? std::nullopt : std::optional(reply.error().code);
  }
};

TEST_F(AgentHostileTest, ReplyOverTheCapCostsOneCommandOnly) {
  EXPECT_EQ(outcome_of("{\"return\": \"" + std::string(1500, 'x') + "\"}\n"), Errc::too_large);
  expect_usable(true);
}

TEST_F(AgentHostileTest, RestOfAReplyOverTheCapIsDroppedByTheSynchronisation) {
  EXPECT_EQ(outcome_of(std::string(1001, 'x')), Errc::too_large);
  expect_usable(true, std::string(900, 'x') + "\"}\n");
}

TEST_F(AgentHostileTest, GarbageCostsOneCommandOnly) {
  EXPECT_EQ(outcome_of("what?\n"), Errc::protocol);
  expect_usable(true);
}

TEST_F(AgentHostileTest, DeepNestingIsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": " + std::string(20, '[') + std::string(20, ']') + "}\n"),
            Errc::protocol);
}

TEST_F(AgentHostileTest, ReplyOfNeitherKindIsAProtocolError) {
  EXPECT_EQ(outcome_of("{}\n"), Errc::protocol);
}

TEST_F(AgentHostileTest, TextThatIsNotUtf8IsAProtocolError) {
  EXPECT_EQ(outcome_of("{\"return\": \"\xC3(\"}\n"), Errc::protocol);
}

TEST_F(AgentHostileTest, SecondReplyToOneCommandIsNotTakenForTheNextCommands) {
  open();
  {
    const Script script([this] {
      peer().read_command();
      peer().send("{\"return\": {}}\n{\"return\": \"forged\"}\n");
    });
    ASSERT_TRUE(execute("guest-ping").has_value());
  }
  expect_usable(true);
}

TEST_F(AgentHostileTest, BytesThatCameBetweenCommandsCauseASynchronisation) {
  open();
  peer().send("{\"return\": \"for");
  expect_usable(true, "ged\"}\n");
}

TEST_F(AgentHostileTest, FloodInsteadOfTheSynchronisationIsTooLarge) {
  const Script script([this] {
    peer().read_line();
    for (int i = 0; i < 20; ++i) {
      peer().send(std::string(99, 'x') + "\n");
    }
  });
  const auto channel = AgentChannel::adopt(connection_.ours, kPatient, kSmall);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::too_large);
}

TEST_F(AgentHostileTest, EndlessLineInsteadOfTheSynchronisationIsTooLarge) {
  const Script script([this] {
    peer().read_line();
    peer().send(std::string(5000, 'x'));
  });
  const auto channel = AgentChannel::adopt(connection_.ours, kPatient, kSmall);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::too_large);
}

TEST_F(AgentHostileTest, SynchronisationThatIsNeverRightTimesOut) {
  const Script script([this] {
    peer().read_line();
    peer().send("\xFF{\"return\": \"1\"}\n\xFF{\"return\": -1}\n\xFF{\"return\": 1e300}\n\xFF[]\n");
  });
  const auto channel = AgentChannel::adopt(connection_.ours, kHasty, kSmall);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::timeout);
}

}  // namespace
}  // namespace vpatch::qmp
