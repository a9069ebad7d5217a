// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_peer.h"
#include "qmp/socket_channel.h"

namespace vpatch::qmp {

class AgentChannelTest : public testing::Test {
 protected:
  void open(const MessageLimits& limits = {}) {
    const Script script([this] { peer().synchronise(); });
    auto channel = AgentChannel::adopt(connection_.ours, kPatient, limits);
    ASSERT_TRUE(channel.has_value()) << channel.error().what;
    channel_ = std::move(*channel);
  }
  Result<boost::json::value> execute(std::string_view command,
                                     const CallOptions& options = kPatient) {
    return channel_->execute(command, {}, options);
  }
  /// The channel works: the next command gets its own reply, after a synchronisation if one is due.
  void expect_usable(bool after_synchronisation, std::string_view stale = "") {
    const Script script([&] {
      if (after_synchronisation) {
        peer().synchronise(stale);
      }
      peer().answer("guest-next", "\"right\"");
    });
    const auto reply = execute("guest-next");
    ASSERT_TRUE(reply.has_value()) << reply.error().what;
    EXPECT_EQ(*reply, boost::json::value("right"));
  }
  FakePeer& peer() { return connection_.peer; }

  Connection connection_;
  std::unique_ptr<AgentChannel> channel_;
};

}  // namespace vpatch::qmp
