// SPDX-License-Identifier: Apache-2.0
// The client against a real QEMU, of the machine "none": no guest, no firmware, up in milliseconds.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_peer.h"
#include "qmp/socket_channel.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

constexpr int kInherited = 100;  // QEMU's number for the listening socket

/// QEMU with its monitor on a socket that listens already, so that nobody has to wait for it.
class RealQemuTest : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<std::string> words = {
        "qemu-system-x86_64",
        "-M",
        "none",
        "-S",
        "-nodefaults",
        "-display",
        "none",
        "-chardev",
        "socket,id=monitor,server=on,wait=off,fd=" + std::to_string(kInherited),
        "-mon",
        "chardev=monitor,mode=control"};
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) {
      argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, listener_.fd(), kInherited);
    const int failure = ::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ASSERT_EQ(failure, 0) << "qemu-system-x86_64 does not start; it is needed by this test";
    auto channel = MonitorChannel::connect(listener_.path(), kPatient);
    ASSERT_TRUE(channel.has_value()) << channel.error().what;
    channel_ = std::move(*channel);
  }
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Result<boost::json::value> execute(std::string_view command) {
    return channel_->execute(command, {}, kPatient);
  }
  Result<Event> wait_event(std::string_view name) {
    return channel_->wait_event([name](const Event& event) { return event.name == name; },
                                kPatient);
  }

  Listener listener_;
  pid_t pid_ = -1;
  std::unique_ptr<MonitorChannel> channel_;
};

TEST_F(RealQemuTest, TellsItsVersionAndStatus) {
  EXPECT_TRUE(channel_->greeting().contains("version"));
  const auto status = execute("query-status");
  ASSERT_TRUE(status.has_value()) << status.error().what;
  EXPECT_EQ(status->at("status").as_string(), "prelaunch");
  EXPECT_FALSE(status->at("running").as_bool());
}

TEST_F(RealQemuTest, ContAndStopComeAsEventsInOrderOfTime) {
  ASSERT_TRUE(execute("cont").has_value());
  const auto resumed = wait_event("RESUME");
  ASSERT_TRUE(resumed.has_value()) << resumed.error().what;
  ASSERT_TRUE(execute("stop").has_value());
  const auto stopped = wait_event("STOP");
  ASSERT_TRUE(stopped.has_value()) << stopped.error().what;
  EXPECT_GT(resumed->timestamp.count(), 0);
  EXPECT_GE(stopped->timestamp, resumed->timestamp);
}

TEST_F(RealQemuTest, ReadsTheWholeSchema) {
  const auto schema = execute("query-qmp-schema");
  ASSERT_TRUE(schema.has_value()) << schema.error().what;
  EXPECT_GT(schema->as_array().size(), 100U);
}

TEST_F(RealQemuTest, UnknownCommandIsCommandNotFoundAndTheChannelGoesOn) {
  const auto reply = execute("frobnicate");
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, Errc::command);
  EXPECT_EQ(reply.error().error_class, "CommandNotFound");
  EXPECT_TRUE(execute("query-status").has_value());
}

TEST_F(RealQemuTest, SecondProgramOnTheSocketMeetsSilence) {
  const auto second = MonitorChannel::connect(listener_.path(), kHasty);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::timeout);
  EXPECT_THAT(second.error().what, HasSubstr("another program"));
}

TEST_F(RealQemuTest, QuitIsAnsweredThenTheChannelIsClosed) {
  ASSERT_TRUE(execute("quit").has_value());
  EXPECT_TRUE(wait_event("SHUTDOWN").has_value());
  const auto never = wait_event("NEVER");
  ASSERT_FALSE(never.has_value());
  EXPECT_EQ(never.error().code, Errc::closed);
  EXPECT_EQ(execute("query-status").error().code, Errc::closed);
}

}  // namespace
}  // namespace vpatch::qmp
