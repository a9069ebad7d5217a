// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <memory>
#include <semaphore>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "qmp/socket_channel.h"

namespace vpatch::qmp {
namespace {

using testing::HasSubstr;

std::string event_line(std::string_view name) {
  return "{\"event\": \"" + std::string(name) +
         "\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n";
}

auto named(std::string_view name) {
  return [name](const Event& event) { return event.name == name; };
}

class MonitorChannelTest : public testing::Test {
 protected:
  void open() {
    const Script script([this] { peer().greet(); });
    auto channel = MonitorChannel::adopt(connection_.ours, kPatient);
    ASSERT_TRUE(channel.has_value()) << channel.error().what;
    channel_ = std::move(*channel);
  }
  FakePeer& peer() { return connection_.peer; }

  Connection connection_;
  std::unique_ptr<MonitorChannel> channel_;
};

TEST_F(MonitorChannelTest, ConnectsToASocketAndKeepsTheGreeting) {
  Listener listener;
  const Script script([&listener] { listener.accept().greet(); });
  const auto channel = MonitorChannel::connect(listener.path(), kPatient);
  ASSERT_TRUE(channel.has_value()) << channel.error().what;
  EXPECT_EQ((*channel)->greeting().at("version").at("qemu").at("major").as_int64(), 7);
}

TEST_F(MonitorChannelTest, MissingSocketIsAConnectError) {
  const auto channel = MonitorChannel::connect("/nonexistent/socket", kPatient);
  ASSERT_FALSE(channel.has_value());
  EXPECT_EQ(channel.error().code, Errc::connect);
  EXPECT_EQ(channel.error().sys_errno, ENOENT);
}

TEST_F(MonitorChannelTest, ExecutesACommand) {
  open();
  const Script script([this] { peer().answer("query-status", "{\"running\": true}"); });
  const auto reply = channel_->execute("query-status", {}, kPatient);
  ASSERT_TRUE(reply.has_value()) << reply.error().what;
  EXPECT_TRUE(reply->at("running").as_bool());
}

TEST_F(MonitorChannelTest, StaysUsableAfterATimeout) {
  open();
  ASSERT_EQ(channel_->execute("slow", {}, kHasty).error().code, Errc::timeout);
  const Script script([this] {
    peer().answer("slow", "\"late\"");
    peer().answer("next", "\"right\"");
  });
  const auto reply = channel_->execute("next", {}, kPatient);
  ASSERT_TRUE(reply.has_value()) << reply.error().what;
  EXPECT_EQ(reply->as_string(), "right");
}

TEST_F(MonitorChannelTest, StopTokenFromAnotherThreadWakesACall) {
  open();
  std::stop_source stop;
  const Script script([&] {
    peer().read_command();
    stop.request_stop();
  });
  const auto reply =
      channel_->execute("slow", {}, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, Errc::cancelled);
}

TEST_F(MonitorChannelTest, StopTokenFromAnotherThreadWakesAWaitForAnEvent) {
  open();
  std::stop_source stop;
  std::binary_semaphore waiting(0);
  const Script script([&] {
    waiting.acquire();
    stop.request_stop();
  });
  peer().send(event_line("RESUME"));
  const auto accept = [&](const Event&) {
    waiting.release();
    return false;
  };
  const auto event =
      channel_->wait_event(accept, {.timeout = kPatient.timeout, .stop = stop.get_token()});
  ASSERT_FALSE(event.has_value());
  EXPECT_EQ(event.error().code, Errc::cancelled);
}

TEST_F(MonitorChannelTest, WaitEventFindsAnEventThatCameWithAnEarlierReply) {
  open();
  const Script script([this] {
    peer().send(event_line("RESUME"));
    peer().send(event_line("STOP"));
    peer().answer("stop");
  });
  ASSERT_TRUE(channel_->execute("stop", {}, kPatient).has_value());
  const auto event = channel_->wait_event(named("STOP"), kPatient);
  ASSERT_TRUE(event.has_value()) << event.error().what;
  EXPECT_EQ(event->timestamp.count(), 1'000'002);
  EXPECT_TRUE(channel_->take_events().empty());
}

TEST_F(MonitorChannelTest, WaitEventKeepsWhatCameAfterTheAcceptedOne) {
  open();
  peer().send(event_line("STOP") + event_line("RESUME"));
  ASSERT_TRUE(channel_->wait_event(named("STOP"), kPatient).has_value());
  const auto events = channel_->take_events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].name, "RESUME");
}

TEST_F(MonitorChannelTest, TakeEventsReadsWhatCameBetweenCalls) {
  open();
  EXPECT_TRUE(channel_->take_events().empty());
  peer().send(event_line("STOP"));
  EXPECT_EQ(channel_->take_events().size(), 1U);
}

TEST_F(MonitorChannelTest, WaitForAnEventTimesOut) {
  open();
  const auto event = channel_->wait_event(named("STOP"), kHasty);
  ASSERT_FALSE(event.has_value());
  EXPECT_EQ(event.error().code, Errc::timeout);
}

TEST_F(MonitorChannelTest, HangUpEndsAWaitForAnEvent) {
  open();
  peer().hang_up();
  const auto event = channel_->wait_event(named("STOP"), kPatient);
  ASSERT_FALSE(event.has_value());
  EXPECT_EQ(event.error().code, Errc::closed);
}

TEST_F(MonitorChannelTest, OldestEventsAreLostAndCountedWhenNobodyTakesThem) {
  open();
  const Script script([this] {
    peer().send(event_line("FIRST"));
    for (int i = 0; i < 4096; ++i) {
      peer().send(event_line("FILLER"));
    }
    peer().answer("query-status");
  });
  ASSERT_TRUE(channel_->execute("query-status", {}, kPatient).has_value());
  EXPECT_EQ(channel_->lost_events(), 1U);
  EXPECT_EQ(channel_->take_events().front().name, "FILLER");
}

TEST_F(MonitorChannelTest, BrokenConnectionStaysBroken) {
  open();
  peer().hang_up();
  EXPECT_EQ(channel_->execute("query-status", {}, kPatient).error().code, Errc::closed);
  const auto again = channel_->execute("query-name", {}, kPatient);
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, Errc::closed);
  EXPECT_THAT(again.error().what, HasSubstr("query-name"));
}

}  // namespace
}  // namespace vpatch::qmp
