// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/health.h"

#include <filesystem>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/fake_clock.h"
#include "tests/unit/domain/fake_domain.h"
#include "tests/unit/qmp/scripted_channel.h"

namespace vpatch {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kBoot = "5bfd0a2c-0000-4000-8000-000000000001";

/// "none" without one.
template <class T>
std::string error_of(const std::optional<Result<T>>& result) {
  return result && !*result ? result->error().what : "none";
}

class AskAgentTest : public testing::Test {
 protected:
  AskAgentTest() { signs.boot_id = kBoot; }

  HealthSigns& ask() {
    ask_agent(channel, options, clock, {}, signs);
    return signs;
  }
  bool agent_answers() {
    ask();
    return signs.agent && *signs.agent;
  }
  /// A command of the guest that ends so at once.
  CommandEnd command(std::string_view status) {
    options.command = {"check", "-x"};
    channel.then("{}").then(R"({"pid":7})").then(status);
    ask();
    return signs.command && *signs.command ? **signs.command : CommandEnd{.output = "no result"};
  }

  qmp::ScriptedChannel channel;
  HealthOptions options;
  FakeClock clock;
  HealthSigns signs;
};

TEST_F(AskAgentTest, IsAPingAlone) {
  channel.then("{}");
  EXPECT_TRUE(agent_answers());
  EXPECT_THAT(channel.commands(), ElementsAre("guest-ping"));
  EXPECT_FALSE(signs.command);
}

TEST_F(AskAgentTest, TriesAgainWhileTheAgentIsBusy) {
  channel.then_fail(qmp::Errc::timeout).then("{}");
  EXPECT_TRUE(agent_answers());
}

TEST_F(AskAgentTest, DoesNothingMoreWithASilentAgent) {
  for (int tries = 0; tries < 5; ++tries) {
    channel.then_fail(qmp::Errc::timeout, "no answer");
  }
  options.command = {"true"};
  ask();
  EXPECT_EQ(error_of(signs.agent), "no answer");
  EXPECT_FALSE(signs.command);
  EXPECT_EQ(channel.sent.size(), 5U);
}

TEST_F(AskAgentTest, ReadsTheBootIdThatMemoryDoesNotShow) {
  signs.boot_id.clear();
  channel.then("{}")
      .then("1000")
      .then(
          R"({"count":37,"eof":true,"buf-b64":"NWJmZDBhMmMtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDAwMDAxCg=="})")
      .then("{}");
  EXPECT_EQ(ask().boot_id, kBoot);
  EXPECT_EQ(channel.sent[1].arguments.at("path"), "/proc/sys/kernel/random/boot_id");
}

TEST_F(AskAgentTest, RunsTheCommandWithItsTimeLimit) {
  options.command_timeout = 3s;
  const CommandEnd end =
      command(R"({"exited":true,"exitcode":1,"out-data":"b25lCg==","err-data":"dHdvGw=="})");
  EXPECT_EQ(end.exit_code, 1);
  EXPECT_EQ(end.output, "one\ntwo?");
  EXPECT_EQ(channel.sent[1].arguments.at("path"), "check");
  EXPECT_EQ(channel.sent[1].arguments.at("arg"), (boost::json::array{"-x"}));
  EXPECT_LE(channel.sent[1].options.timeout, 3s);
}

TEST_F(AskAgentTest, HasNoExitCodeOfACommandThatASignalEnded) {
  const CommandEnd end = command(R"({"exited":true,"signal":9})");
  EXPECT_EQ(end.exit_code, std::nullopt);
  EXPECT_EQ(end.output, "");
}

TEST_F(AskAgentTest, HasNoResultOfACommandThatCannotBeRun) {
  options.command = {"nonsense"};
  channel.then("{}").then_fail(qmp::Errc::command, "No such file", "GenericError");
  ask();
  EXPECT_THAT(error_of(signs.command), HasSubstr("No such file"));
}

TEST(CheckHealth, AsksNothingOfADomainThatDoesNotRun) {
  FakeDomain domain;
  FakeClock clock;
  for (const RunState state : {RunState::shut_off, RunState::paused}) {
    domain.state = state;
    const HealthReport report =
        check_health(domain, BootCache(std::filesystem::path()), {}, clock, {});
    EXPECT_EQ(report.health, Verdict::inconclusive);
    EXPECT_THAT(report.text, HasSubstr(std::string(to_string(state))));
    EXPECT_EQ(report.checks.back().text, "the guest agent was not asked");
  }
}

TEST(CheckHealth, GoesOnWithTheAgentWhereMemoryCannotBeRead) {
  FakeDomain domain;
  FakeClock clock;
  const HealthReport report =
      check_health(domain, BootCache(std::filesystem::path()), {}, clock, {});
  EXPECT_EQ(report.health, Verdict::inconclusive);
  EXPECT_THAT(report.checks[1].text, HasSubstr("guest memory cannot be read"));
  EXPECT_THAT(report.checks.back().text, HasSubstr("does not answer"));
}

TEST(CheckHealth, IsInconclusiveOfADomainThatIsNotThere) {
  const HealthReport report = unreachable_health(
      "web01", {Outcome::unreachable, "no domain named web01"}, {.command = {"true"}});
  EXPECT_EQ(report.health, Verdict::inconclusive);
  EXPECT_EQ(report.text, "web01: no domain named web01 (and 3 more)");
}

}  // namespace
}  // namespace vpatch
