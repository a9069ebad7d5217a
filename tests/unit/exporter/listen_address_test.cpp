// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/listen_address.h"

#include <gtest/gtest.h>

namespace vpatch::exporter {
namespace {

TEST(ListenAddress, IsLoopbackUnlessGiven) {
  const ListenAddress usual;
  EXPECT_EQ(usual.text(), "127.0.0.1:9753");
  const auto parsed = parse_listen_address(usual.text());
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->loopback);
  EXPECT_EQ(parsed->text(), usual.text());
}

TEST(ListenAddress, KnowsWhatOthersReach) {
  for (const char* own : {"127.0.0.2:1", "[::1]:9753"}) {
    EXPECT_TRUE(parse_listen_address(own).value().loopback) << own;
  }
  for (const char* others : {"0.0.0.0:9753", "[::]:9753", "192.0.2.1:9753", "[2001:db8::1]:9753"}) {
    EXPECT_FALSE(parse_listen_address(others).value().loopback) << others;
  }
}

TEST(ListenAddress, TakesIpv6InBrackets) {
  const auto address = parse_listen_address("[::1]:9753").value();
  EXPECT_TRUE(address.ipv6);
  EXPECT_EQ(address.address, "::1");
  EXPECT_EQ(address.port, 9753);
  EXPECT_EQ(address.text(), "[::1]:9753");
}

TEST(ListenAddress, IsGivenInFull) {
  for (const char* part : {"", "9753", ":9753", "127.0.0.1", "127.0.0.1:", "::1:9753", "[::1]",
                           "localhost:9753", "*:9753", "[127.0.0.1]:9753", "127.0.0.1:65536",
                           "127.0.0.1:-1", "127.0.0.1:97x", "127.0.0.1:+1", "[]:9753"}) {
    const auto parsed = parse_listen_address(part);
    ASSERT_FALSE(parsed) << part;
    EXPECT_EQ(parsed.error().outcome, Outcome::usage);
  }
}

}  // namespace
}  // namespace vpatch::exporter
