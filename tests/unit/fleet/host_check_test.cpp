// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/host_check.h"

#include <fstream>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::fleet {
namespace {

using namespace std::chrono_literals;
using Health = rollout::HealthVerdict::Health;
using rollout::HealthVerdict;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

HealthVerdict run(std::vector<std::string> argv, std::chrono::seconds timeout = 60s) {
  boost::asio::io_context context;
  HealthVerdict verdict{.text = "no verdict"};
  boost::asio::co_spawn(context, run_host_check(context.get_executor(), std::move(argv), timeout),
                        [&](const std::exception_ptr& error, HealthVerdict found) {
                          EXPECT_FALSE(error);
                          verdict = std::move(found);
                        });
  context.run();
  return verdict;
}

HealthVerdict shell(const std::string& script, std::chrono::seconds timeout = 60s) {
  return run({"sh", "-c", script}, timeout);
}

TEST(HostCheck, ExitCodesTell) {
  EXPECT_EQ(shell("exit 0").health, Health::pass);
  EXPECT_EQ(shell("exit 1").health, Health::fail);
  EXPECT_EQ(shell("exit 2").health, Health::inconclusive);
  EXPECT_EQ(shell("exit 127").health, Health::inconclusive);
}

TEST(HostCheck, SignalIsInconclusive) {
  const HealthVerdict verdict = shell("kill -TERM $$");
  EXPECT_EQ(verdict.health, Health::inconclusive);
  EXPECT_EQ(verdict.text, "signal 15 ended it");
}

TEST(HostCheck, TellsTheEndOfWhatItSaidOnOneLine) {
  EXPECT_EQ(shell("echo to nobody; printf 'no\\n\\033route\\n' >&2; exit 1").text,
            "exit code 1: no ?route");
  const HealthVerdict verdict = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo end >&2");
  EXPECT_THAT(verdict.text, testing::EndsWith("xend"));
  EXPECT_LE(verdict.text.size(), 420U);
}

TEST(HostCheck, FloodOfOutputDoesNotStopIt) {
  EXPECT_EQ(shell("head -c 3000000 /dev/zero").health, Health::pass);
}

TEST(HostCheck, TimeoutKillsIt) {
  const HealthVerdict verdict = shell("trap '' INT TERM; exec sleep 600", 1s);
  EXPECT_EQ(verdict.health, Health::inconclusive);
  EXPECT_EQ(verdict.text, "no end after 1 s");
}

TEST(HostCheck, TimeoutKillsWhatItHasStartedToo) {
  const HealthVerdict verdict = shell("sleep 600 & echo $! >&2; wait", 1s);
  EXPECT_EQ(verdict.health, Health::inconclusive);
  ASSERT_THAT(verdict.text, StartsWith("no end after 1 s: "));
  const auto started = verdict.text.substr(verdict.text.rfind(' ') + 1);
  const auto runs = [&] {
    std::ifstream words("/proc/" + started + "/cmdline");  // a zombie has none
    return words.peek() != std::ifstream::traits_type::eof();
  };
  for (int tries = 0; runs() && tries < 1000; ++tries) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_FALSE(runs()) << started;
}

TEST(HostCheck, ChildThatItLeavesBehindIsNotWaitedFor) {
  EXPECT_EQ(shell("sleep 5 & echo $! >&2").health, Health::pass);
}

TEST(HostCheck, ProgramThatIsNotThereIsInconclusive) {
  const HealthVerdict verdict = run({"/no/such/program"});
  EXPECT_EQ(verdict.health, Health::inconclusive);
  EXPECT_THAT(verdict.text, HasSubstr("cannot start /no/such/program"));
}

TEST(WordsOfCheck, TakeTheDomainIn) {
  EXPECT_THAT(words_of_check({"curl", "--", "http://{domain}/{identity}?{connection}", "{other}"},
                             "web0", "id", "qemu:///system"),
              ElementsAre("curl", "--", "http://web0/id?qemu:///system", "{other}"));
}

TEST(WordsOfCheck, NamesAreNotReadAgain) {
  EXPECT_THAT(words_of_check({"{domain}"}, "{identity}{domain}", "id", "c"),
              ElementsAre("{identity}{domain}"));
}

}  // namespace
}  // namespace vpatch::fleet
