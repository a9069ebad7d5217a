// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/host_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsSupersetOf;

class ThisHost : public testing::TestWithParam<std::string> {};

TEST_P(ThisHost, IsDrivenByThisProgram) {
  const auto command = host_command(GetParam(), "/usr/bin/vpatch");
  ASSERT_TRUE(command);
  EXPECT_THAT(command->words, ElementsAre("/usr/bin/vpatch", "serve", "--stdio"));
  EXPECT_EQ(command->connection, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, ThisHost,
                         testing::Values("qemu:///system", "qemu:///session", "test:///default"));

TEST(HostCommand, AnotherHostIsReachedBySsh) {
  const auto command = host_command("qemu+ssh://root@host1:2222/system", "/usr/bin/vpatch");
  ASSERT_TRUE(command);
  const auto& words = command->words;
  EXPECT_EQ(words.front(), "ssh");
  EXPECT_THAT(words, IsSupersetOf({"-oBatchMode=yes", "-p2222", "-lroot"}));
  EXPECT_THAT(std::vector(words.end() - 5, words.end()),
              ElementsAre("--", "host1", "vpatch", "serve", "--stdio"));
  EXPECT_EQ(command->connection, "qemu:///system");
}

TEST(HostCommand, KnowsParametersOfLibvirt) {
  const auto command = host_command(
      "qemu+ssh://h/session?keyfile=/k%20ey&known_hosts=/known&no_verify=1&command=/opt/ssh", "v");
  ASSERT_TRUE(command);
  EXPECT_EQ(command->words.front(), "/opt/ssh");
  EXPECT_THAT(command->words, IsSupersetOf({"-i/k ey", "-oUserKnownHostsFile=/known",
                                            "-oStrictHostKeyChecking=no"}));
  EXPECT_EQ(command->connection, "qemu:///session");
}

class WrongHost : public testing::TestWithParam<std::string> {};

TEST_P(WrongHost, IsRefused) {
  const auto command = host_command(GetParam(), "v");
  ASSERT_FALSE(command);
  EXPECT_EQ(command.error().outcome, Outcome::usage);
  EXPECT_FALSE(command.error().hint.empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongHost,
    testing::Values("", "qemu", "/etc/passwd", "qemu:///", "qemu:///system?command=/bin/sh",
                    "qemu+tcp://h/system", "qemu+ext://h/system?command=x", "xen:///system",
                    "qemu+ssh:///system", "qemu+ssh://h/", "qemu+ssh://h/other",
                    "qemu+ssh://u:secret@h/system", "qemu+ssh://h/system#f",
                    "qemu+ssh://-oProxyCommand=x/system", "qemu+ssh://%2DoProxyCommand=x/system",
                    "qemu+ssh://h/system?keyfile=-x", "qemu+ssh://h/system?keyfile=",
                    "qemu+ssh://h/system?keyfile", "qemu+ssh://h/system?no_verify=2",
                    "qemu+ssh://h/system?netcat=x", "qemu+ssh://h/system?socket=/x",
                    "qemu+ssh://h/system?command=-x", "qemu+ssh://h:0x/system"));

TEST(HostCommand, UserCannotBecomeAnOption) {
  const auto command = host_command("qemu+ssh://-oProxyCommand=x@h/system", "v");
  if (command) {
    EXPECT_THAT(command->words, testing::Not(Contains(testing::StartsWith("-oProxyCommand"))));
  }
}

}  // namespace
}  // namespace vpatch::fleet
