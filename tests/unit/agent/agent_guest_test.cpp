// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/agent_guest.h"

#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qmp/base64.h"
#include "tests/unit/qmp/scripted_channel.h"

namespace vpatch {
namespace {

using qmp::ScriptedChannel;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

std::string base64(std::string_view text) {
  return qmp::base64_encode(std::as_bytes(std::span(text)));
}

/// The agent runs one program, which ends like this.
void will_exit(ScriptedChannel& channel, int code, std::string_view out,
               std::string_view err = "") {
  channel.then(R"({"pid": 7})");
  channel.then(
      fmt::format(R"({{"exited": true, "exitcode": {}, "out-data": "{}", "err-data": "{}"}})", code,
                  base64(out), base64(err)));
}

/// The words of the program that was run, after "/bin/sh".
std::vector<std::string> words(const ScriptedChannel& channel) {
  std::vector<std::string> result;
  for (const auto& word : channel.sent.at(0).arguments.at("arg").as_array()) {
    result.emplace_back(word.as_string());
  }
  return result;
}

constexpr const char* kHostileName = "p1\"; reboot; $(reboot) `reboot` '";

TEST(AgentGuest, PassesAModulesNameToLoadAsAnArgument) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  AgentGuest guest(channel);
  EXPECT_TRUE(guest.load(kHostileName, {}));
  EXPECT_THAT(words(channel), ElementsAre("-c", Not(HasSubstr("reboot")), "vpatch",
                                          fmt::format("/run/vpatch-delivery/{}.ko", kHostileName)));
}

TEST(AgentGuest, PassesAModulesNameToUnloadAsAnArgument) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  AgentGuest guest(channel);
  EXPECT_TRUE(guest.unload(kHostileName, {}));
  EXPECT_THAT(words(channel), ElementsAre("-c", Not(HasSubstr("reboot")), "vpatch", kHostileName));
}

TEST(AgentGuest, DoesNotLetAModulesNameBeAnOptionOfRmmod) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  AgentGuest guest(channel);
  EXPECT_TRUE(guest.unload("-f", {}));
  EXPECT_THAT(words(channel).at(1), HasSubstr(R"(rmmod -- "$1")"));
}

TEST(AgentGuest, PassesAPatchsNameToSetEnabledAsAnArgument) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  AgentGuest guest(channel);
  EXPECT_TRUE(guest.set_enabled(kHostileName, false, {}));
  EXPECT_THAT(words(channel),
              ElementsAre("-c", Not(HasSubstr("reboot")), "vpatch", kHostileName, "0"));
}

TEST(AgentGuest, ReturnsTheKernelsRefusalAsAResult) {
  ScriptedChannel channel;
  will_exit(channel, 1, "", "insmod: ERROR: Invalid module format\n");
  AgentGuest guest(channel);
  const auto result = guest.load("p1", {});
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->ok);
  EXPECT_EQ(result->message, "insmod: ERROR: Invalid module format");
}

TEST(AgentGuest, MakesARefusalPrintableAndShort) {
  ScriptedChannel channel;
  will_exit(channel, 1, "", "\x1b[2J" + std::string(10'000, 'x'));
  AgentGuest guest(channel);
  const auto result = guest.load("p1", {});
  ASSERT_TRUE(result);
  EXPECT_THAT(result->message, SizeIs(400));
  EXPECT_EQ(result->message.substr(0, 5), " [2Jx");
}

TEST(AgentGuest, TakesAProgramKilledByASignalForARefusal) {
  ScriptedChannel channel;
  channel.then(R"({"pid": 7})").then(R"({"exited": true, "signal": 9})");
  AgentGuest guest(channel);
  const auto result = guest.load("p1", {});
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->ok);
}

TEST(AgentGuest, IsUnreachableWithAHintWhenTheAgentDoesNotAnswer) {
  for (const qmp::Errc code : {qmp::Errc::timeout, qmp::Errc::closed, qmp::Errc::connect}) {
    ScriptedChannel channel;
    channel.then_fail(code, "no answer");
    AgentGuest guest(channel);
    const auto state = guest.observe({});
    ASSERT_FALSE(state);
    EXPECT_EQ(state.error().outcome, Outcome::unreachable);
    EXPECT_THAT(state.error().what, HasSubstr("no answer"));
    EXPECT_THAT(state.error().hint, HasSubstr("qemu-guest-agent"));
  }
}

TEST(AgentGuest, SaysHowToAllowABlockedCommand) {
  ScriptedChannel channel;
  channel.then_fail(qmp::Errc::command, "guest-exec has been disabled", "CommandNotFound");
  AgentGuest guest(channel);
  const auto state = guest.observe({});
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().outcome, Outcome::unreachable);
  EXPECT_THAT(state.error().hint, HasSubstr("allow-rpcs"));
}

TEST(AgentGuest, IsInterruptedByTheStopToken) {
  ScriptedChannel channel;
  channel.then_fail(qmp::Errc::cancelled);
  AgentGuest guest(channel);
  const auto state = guest.observe({});
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().what, "interrupted");
}

TEST(AgentGuest, ObservesTheGuest) {
  ScriptedChannel channel;
  will_exit(channel, 0, "release\t6.1.0\nlivepatch\t1\n");
  AgentGuest guest(channel);
  const auto state = guest.observe({});
  ASSERT_TRUE(state) << state.error().what;
  EXPECT_EQ(state->release, "6.1.0");
}

TEST(AgentGuest, BelievesNoGarbageForAState) {
  for (
      const char* status : {
          R"({"exited": true, "exitcode": 0})",
          R"({"exited": true, "exitcode": 0, "out-data": "AAEC/w=="})",
          R"({"exited": true, "exitcode": 0, "out-data": "not base64!"})",
          R"({"exited": true, "exitcode": "0"})",
          R"({"exited": true})",
          R"({"exited": true, "exitcode": 127, "out-data": "cmVsZWFzZQk2LjEK"})",
          R"({"exited": true, "exitcode": 0, "out-data": "cmVsZWFzZQk2LjEK", "out-truncated": true})",
          R"([])",
          R"("exited")",
      }) {
    ScriptedChannel channel;
    channel.then(R"({"pid": 7})").then(status);
    AgentGuest guest(channel);
    const auto state = guest.observe({});
    ASSERT_FALSE(state) << status;
    EXPECT_EQ(state.error().outcome, Outcome::unreachable) << status;
  }
}

TEST(AgentGuest, RefusesAnOutputOverTheCap) {
  std::string output;
  output.resize(24'000'000, 'A');
  ScriptedChannel channel;
  channel.then(R"({"pid": 7})");
  channel.then(fmt::format(R"({{"exited": true, "exitcode": 0, "out-data": "{}"}})", output));
  AgentGuest guest(channel);
  const auto state = guest.observe({});
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().outcome, Outcome::unreachable);
}

TEST(AgentGuest, AsksForTheTasksThatAreNotYetPatched) {
  ScriptedChannel channel;
  will_exit(channel, 0, "task\t42\ncomm\tdd\ncount\t1\n");
  AgentGuest guest(channel);
  const auto tasks = guest.pending_tasks(true, {});
  ASSERT_TRUE(tasks);
  EXPECT_EQ(tasks->count, 1U);
  EXPECT_EQ(words(channel).back(), "1");
}

TEST(AgentGuest, DeliversToAPathOfTheModulesName) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  channel.then("3").then(R"({"count": 3, "eof": false})").then("{}").then("{}");
  will_exit(channel, 0, "c0ffee  /run/vpatch-delivery/p1.ko\n");
  AgentGuest guest(channel);
  const std::string bytes = "abc";
  std::size_t done = 0;
  const auto progress = [&done](std::size_t now, std::size_t) { done = now; };
  EXPECT_TRUE(guest.deliver("p1", std::as_bytes(std::span(bytes)), "c0ffee", progress, {}));
  EXPECT_EQ(channel.sent.at(2).arguments.at("path").as_string(), "/run/vpatch-delivery/p1.ko");
  EXPECT_EQ(done, 3U);
}

TEST(AgentGuest, RefusesAFileThatArrivedChanged) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  channel.then("3").then(R"({"count": 3, "eof": false})").then("{}").then("{}");
  will_exit(channel, 0, "deadbeef  /run/vpatch-delivery/p1.ko\n");
  AgentGuest guest(channel);
  const std::string bytes = "abc";
  const auto delivered = guest.deliver("p1", std::as_bytes(std::span(bytes)), "c0ffee", {}, {});
  ASSERT_FALSE(delivered);
  EXPECT_THAT(delivered.error().what, HasSubstr("arrived changed"));
}

TEST(AgentGuest, DeliversIntoAFolderThatNobodyElseMayEnter) {
  ScriptedChannel channel;
  will_exit(channel, 1, "", "mkdir: Read-only file system");
  AgentGuest guest(channel);
  const auto delivered = guest.deliver("p1", {}, "c0ffee", {}, {});
  ASSERT_FALSE(delivered);
  EXPECT_THAT(words(channel).at(1), HasSubstr("mkdir -m 0700 /run/vpatch-delivery"));
  EXPECT_THAT(delivered.error().what, HasSubstr("Read-only file system"));
}

TEST(AgentGuest, BlamesTheGuestsDiskAndNotTheAgentForAFileThatCannotBeWritten) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  channel.then_fail(qmp::Errc::command, "No space left on device", "GenericError");
  AgentGuest guest(channel);
  const auto delivered = guest.deliver("p1", {}, "c0ffee", {}, {});
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().outcome, Outcome::failed_restored);
}

TEST(AgentGuest, SaysWhenADeliveredFileCannotBeRemoved) {
  ScriptedChannel channel;
  will_exit(channel, 1, "", "rm: Read-only file system");
  AgentGuest guest(channel);
  const auto removed = guest.remove_delivered({});
  ASSERT_FALSE(removed);
  EXPECT_THAT(removed.error().what, HasSubstr("Read-only file system"));
}

/// A file of the guest that holds `bytes`.
void will_read(ScriptedChannel& channel, std::string_view bytes) {
  channel.then("3")
      .then(fmt::format(R"({{"count": {}, "buf-b64": "{}", "eof": true}})", bytes.size(),
                        base64(bytes)))
      .then("{}");
}

TEST(AgentGuest, ReadsABuildIdFromItsNote) {
  using namespace std::string_literals;
  ScriptedChannel channel;
  will_read(channel, "\4\0\0\0\4\0\0\0\3\0\0\0GNU\0\xde\xad\xbe\xef"s);
  AgentGuest guest(channel);
  EXPECT_EQ(guest.module_build_id("p1", {}).value_or("error"), "deadbeef");
  EXPECT_EQ(channel.sent.at(0).arguments.at("path").as_string(),
            "/sys/module/p1/notes/.note.gnu.build-id");
}

TEST(AgentGuest, HasNoBuildIdForAShortNote) {
  ScriptedChannel channel;
  will_read(channel, "GNU");
  AgentGuest guest(channel);
  EXPECT_EQ(guest.module_build_id("p1", {}).value_or("error"), "");
}

TEST(AgentGuest, ReadsNoFurtherThanTheNoteGoes) {
  using namespace std::string_literals;
  ScriptedChannel channel;
  will_read(channel, "\4\0\0\0\xff\0\0\0\3\0\0\0GNU\0\xab"s);
  AgentGuest guest(channel);
  EXPECT_EQ(guest.module_build_id("p1", {}).value_or("error"), "ab");
}

TEST(AgentGuest, HasNoBuildIdForAModuleWithoutANote) {
  ScriptedChannel channel;
  channel.then_fail(qmp::Errc::command, "failed to open file", "GenericError");
  AgentGuest guest(channel);
  EXPECT_EQ(guest.module_build_id("p1", {}).value_or("error"), "");
}

TEST(AgentGuest, DoesNotTakeABlockedReadForAMissingBuildId) {
  ScriptedChannel channel;
  channel.then_fail(qmp::Errc::command, "guest-file-open has been disabled", "CommandNotFound");
  AgentGuest guest(channel);
  EXPECT_FALSE(guest.module_build_id("p1", {}));
}

TEST(AgentGuest, MarksTheLastLineOfTheLog) {
  ScriptedChannel channel;
  will_exit(channel, 0, "[ 1.0] one\n[ 2.0] two\n");
  AgentGuest guest(channel);
  EXPECT_EQ(guest.log_mark({}).value_or("error"), "[ 2.0] two");
}

TEST(AgentGuest, HasAnEmptyMarkForAnEmptyLog) {
  ScriptedChannel channel;
  will_exit(channel, 0, "");
  AgentGuest guest(channel);
  EXPECT_EQ(guest.log_mark({}).value_or("error"), "");
}

TEST(AgentGuest, ReturnsTheLogAfterTheMark) {
  ScriptedChannel channel;
  will_exit(channel, 0, "[ 1.0] one\n[ 2.0] two\n[ 3.0] three\n");
  AgentGuest guest(channel);
  EXPECT_THAT(guest.log_since("[ 1.0] one", {}).value(), ElementsAre("[ 2.0] two", "[ 3.0] three"));
}

TEST(AgentGuest, ReturnsTheWholeLogWhenTheMarkIsGone) {
  ScriptedChannel channel;
  will_exit(channel, 0, "[ 2.0] two\n[ 3.0] three\n");
  AgentGuest guest(channel);
  EXPECT_THAT(guest.log_since("[ 1.0] one", {}).value(), SizeIs(2));
}

TEST(AgentGuest, ReturnsNothingWhenTheMarkIsTheLastLine) {
  ScriptedChannel channel;
  will_exit(channel, 0, "[ 1.0] one\n");
  AgentGuest guest(channel);
  EXPECT_THAT(guest.log_since("[ 1.0] one", {}).value(), IsEmpty());
}

TEST(AgentGuest, DoesNotTakeAnUnreadableLogForAnEmptyOne) {
  ScriptedChannel channel;
  will_exit(channel, 1, "", "dmesg: Operation not permitted");
  AgentGuest guest(channel);
  const auto mark = guest.log_mark({});
  ASSERT_FALSE(mark);
  EXPECT_THAT(mark.error().what, HasSubstr("Operation not permitted"));
}

TEST(AgentGuest, MakesLogLinesPrintableAndShort) {
  ScriptedChannel channel;
  will_exit(channel, 0, "\x1b]0;" + std::string(5000, 'x') + "\n");
  AgentGuest guest(channel);
  const auto lines = guest.log_since("", {}).value();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0], SizeIs(1000));
  EXPECT_EQ(lines[0].substr(0, 5), " ]0;x");
}

}  // namespace
}  // namespace vpatch
