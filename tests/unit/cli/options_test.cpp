// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/options.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using namespace std::chrono_literals;

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "vpatch");
  std::vector<char*> argv;
  argv.reserve(words.size());
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

TEST(Options, HaveDurationsOfTheirOwnForApplyAndRevert) {
  const Options apply = parse({"apply", "fix.ko", "--domain", "web01", "--timeout", "1.5s",
                               "--grace=2m", "--agent-timeout", "30"});
  EXPECT_EQ(apply.verb, Verb::apply);
  EXPECT_EQ(apply.apply.timeout, 1500ms);
  EXPECT_EQ(apply.apply.grace, 2min);
  EXPECT_EQ(apply.agent_timeout, 30s);
  const Options revert = parse({"revert", "--domain", "web01", "--timeout", "250ms"});
  EXPECT_EQ(revert.verb, Verb::revert);
  EXPECT_EQ(revert.revert.timeout, 250ms);
}

TEST(Options, HaveDefaultDurations) {
  const Options options = parse({"apply", "fix.ko", "--domain", "web01"});
  EXPECT_EQ(options.apply.timeout, 60s);
  EXPECT_EQ(options.apply.grace, 10s);
  EXPECT_EQ(options.agent_timeout, 20s);
}

TEST(Options, TakeCertificatesOneByOne) {
  const Options options =
      parse({"apply", "--domain", "web01", "--require-signed", "--cert", "a.pem", "--cert", "keys",
             "--policy", "p.yaml", "--allow-downgrade", "fix.ko"});
  EXPECT_EQ(options.verb, Verb::apply);
  EXPECT_EQ(options.file, "fix.ko");
  EXPECT_TRUE(options.signature.required);
  EXPECT_THAT(options.signature.certificates, testing::ElementsAre("a.pem", "keys"));
  EXPECT_EQ(options.signature.policy, "p.yaml");
  EXPECT_TRUE(options.apply.preflight.allow_downgrade);
}

TEST(Options, AskForNoSignatureByThemselves) {
  const Options options = parse({"inspect", "fix.ko"});
  EXPECT_EQ(options.verb, Verb::inspect);
  EXPECT_FALSE(options.signature.required);
  EXPECT_EQ(options.signature.policy, "");
}

TEST(Options, ShowDurationsInTheHelp) {
  testing::internal::CaptureStdout();
  const Options options = parse({"apply", "--help"});
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              testing::HasSubstr("--timeout DURATION in [0s - 24h]=1m"));
  EXPECT_EQ(options.exit_code, 0);
}

TEST(Options, RefuseAWrongDurationAsUsage) {
  for (const char* wrong : {"soon", "-1s", "25h", "5 s", ""}) {
    testing::internal::CaptureStderr();
    const Options options = parse({"apply", "fix.ko", "--domain", "web01", "--timeout", wrong});
    EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("--timeout: ")) << wrong;
    EXPECT_EQ(options.verb, Verb::none);
    EXPECT_EQ(options.exit_code, 2);
  }
}

TEST(Options, HistoryTakesFiltersAndTimes) {
  const Options options = parse({"history", "--domain", "web01", "--patch", "p", "--verb", "apply",
                                 "--outcome", "refused", "--since", "2026-11-21", "-n", "7"});
  EXPECT_EQ(options.verb, Verb::history);
  const OperationFilter& filter = options.history.filter;
  EXPECT_EQ(filter.domain, "web01");
  EXPECT_EQ(filter.patch, "p");
  EXPECT_EQ(filter.verb, "apply");
  EXPECT_EQ(filter.outcome, Outcome::refused);
  EXPECT_EQ(filter.since, "2026-11-21T00:00:00.000000Z");
  EXPECT_EQ(filter.limit, 7U);
  EXPECT_EQ(parse({"history", "--id", "9"}).history.filter.id, OperationId{9});
}

TEST(Options, HistoryExportsAndVerifiesAFileOrNone) {
  EXPECT_EQ(parse({"history", "--export"}).history.export_to, "");
  EXPECT_EQ(parse({"history", "--export", "f"}).history.export_to, "f");
  EXPECT_EQ(parse({"history", "--verify"}).history.verify, "");
  EXPECT_EQ(parse({"history", "--verify", "f", "--json"}).history.verify, "f");
  EXPECT_EQ(parse({"history"}).history.verify, std::nullopt);
}

TEST(Options, EnsureNeedsADomainOrAll) {
  EXPECT_EQ(parse({"ensure", "--all"}).verb, Verb::ensure);
  EXPECT_EQ(parse({"ensure", "--domain", "web01", "--retry-failed"}).retry_failed, true);
  EXPECT_EQ(parse({"ensure", "--domain", "web01", "--settle", "0s"}).settle, 0s);
}

TEST(Options, EnsureRegistersListsAndForgets) {
  const Options put = parse({"ensure", "--register", "fix.ko", "--domain", "web01"});
  EXPECT_EQ(put.verb, Verb::ensure);
  EXPECT_EQ(put.file, "fix.ko");
  EXPECT_TRUE(parse({"ensure", "--list"}).list);
  EXPECT_EQ(parse({"ensure", "--list", "--domain", "web01"}).target.domain, "web01");
  EXPECT_EQ(parse({"ensure", "--forget", "p1", "--domain", "web01"}).forget, "p1");
  EXPECT_TRUE(parse({"revert", "--to", "a.ko", "--persist", "-d", "web01"}).persist);
}

TEST(Options, GroupSetsAddsAndRemoves) {
  const Options show = parse({"group", "--domain", "web01"});
  EXPECT_EQ(show.verb, Verb::group);
  EXPECT_FALSE(show.groups.changes());
  const GroupChange set = parse({"group", "--domain", "web01", "web", "frankfurt"}).groups;
  EXPECT_TRUE(set.replace);
  EXPECT_THAT(set.add, testing::ElementsAre("web", "frankfurt"));
  const GroupChange both =
      parse({"group", "--domain", "web01", "--add", "a", "b", "--remove", "c", "d"}).groups;
  EXPECT_FALSE(both.replace);
  EXPECT_THAT(both.add, testing::ElementsAre("a", "b"));
  EXPECT_THAT(both.remove, testing::ElementsAre("c", "d"));
  const GroupChange clear = parse({"group", "--domain", "web01", "--clear"}).groups;
  EXPECT_TRUE(clear.replace);
  EXPECT_TRUE(clear.add.empty());
}

TEST(Options, RefuseWhatDoesNotGoTogether) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"ensure"},
           {"ensure", "--all", "--domain", "web01"},
           {"ensure", "--qmp", "/q"},
           {"apply", "fix.ko", "--domain", "web01", "--persist", "--dry-run"},
           {"ensure", "--register", "fix.ko"},
           {"ensure", "--register", "", "--domain", "web01"},
           {"ensure", "--forget", "", "--domain", "web01"},
           {"ensure", "--register", "fix.ko", "--domain", "web01", "--list"},
           {"ensure", "--register", "fix.ko", "--domain", "web01", "--forget", "p1"},
           {"ensure", "--list", "--all"},
           {"revert", "p1", "--persist", "--domain", "web01"},
           {"revert", "--replace-with-nop", "--persist", "--domain", "web01"},
           {"group", "web"},
           {"group", "--domain", "web01", "a b"},
           {"group", "--domain", "web01", "--add", "-x"},
           {"group", "--domain", "web01", "web", "--add", "db"},
           {"group", "--domain", "web01", "--clear", "--remove", "db"},
           {"history", "--export", "--verify"},
           {"history", "--export", "--domain", "web01"},
           {"history", "--verify", "--failed"},
           {"history", "--since", "yesterday"},
           {"history", "--outcome", "fine"}}) {
    testing::internal::CaptureStderr();
    const Options options = parse(words);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::Not(testing::IsEmpty()));
    EXPECT_EQ(options.verb, Verb::none) << words.back();
    EXPECT_EQ(options.exit_code, 2) << words.back();
  }
}

TEST(Options, TakeFunctionsToQuiesceAsOneWord) {
  const Options options =
      parse({"apply", "--quiesce", "foo,mod:bar", "fix.ko", "--domain", "web01", "--quiesce=baz"});
  EXPECT_EQ(options.file, "fix.ko");
  EXPECT_THAT(options.apply.quiesce, testing::ElementsAre("foo", "mod:bar", "baz"));
}

TEST(Options, GoBackInOneOfThreeWays) {
  EXPECT_EQ(parse({"revert", "p1", "-d", "web01"}).revert.patch, "p1");
  EXPECT_EQ(parse({"revert", "--to", "old.ko", "-d", "web01"}).revert_to, "old.ko");
  const Options nop = parse({"revert", "--replace-with-nop", "--nop", "nop.ko", "-d", "web01"});
  EXPECT_TRUE(nop.replace_with_nop);
  EXPECT_EQ(nop.nop, "nop.ko");
}

TEST(Options, RefuseTwoWaysBackAtOnce) {
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"p1", "--to", "old.ko"},
                                                {"p1", "--replace-with-nop"},
                                                {"--to", "old.ko", "--replace-with-nop"},
                                                {"--nop", "nop.ko"}}) {
    std::vector<std::string> words = {"revert", "-d", "web01"};
    words.insert(words.end(), wrong.begin(), wrong.end());
    testing::internal::CaptureStderr();
    EXPECT_EQ(parse(words).exit_code, 2) << testing::PrintToString(wrong);
    testing::internal::GetCapturedStderr();
  }
}

TEST(Options, TellProgressWhereSomethingIsDone) {
  EXPECT_TRUE(parse({"apply", "fix.ko", "-d", "web01", "--json", "--progress"}).progress);
  EXPECT_TRUE(parse({"revert", "-d", "web01", "--progress"}).progress);
  EXPECT_TRUE(parse({"ensure", "-d", "web01", "--progress"}).progress);
  EXPECT_FALSE(parse({"apply", "fix.ko", "-d", "web01", "--json"}).progress);
}

TEST(Options, HealthTakesAMarkAndACommandWordForWord) {
  const Options options = parse({"health", "-d", "web01", "--since-boot", "5bfd", "--since-log",
                                 "71", "--since-taint", "512", "--command-timeout", "1500ms",
                                 "--json", "--", "sh", "-c", "[a,b]", "--", "-d"});
  EXPECT_EQ(options.verb, Verb::health);
  EXPECT_EQ(options.health.since.boot_id, "5bfd");
  EXPECT_EQ(options.health.since.log_sequence, 71U);
  EXPECT_EQ(options.health.since.taint, 512U);
  EXPECT_EQ(options.health.command_timeout, 1500ms);
  EXPECT_TRUE(options.json);
  EXPECT_EQ(options.target.domain, "web01");
  EXPECT_THAT(options.health.command, testing::ElementsAre("sh", "-c", "[a,b]", "--", "-d"));
}

TEST(Options, HealthIsHeldAgainstNothingUnlessAsked) {
  const Options options = parse({"health", "-d", "web01"});
  EXPECT_FALSE(options.health.since.given());
  EXPECT_THAT(options.health.command, testing::IsEmpty());
  EXPECT_EQ(options.health.command_timeout, 30s);
}

TEST(Options, HealthRefusesWhatIsNoMark) {
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--since-log", "-1"},
                                                {"--since-taint", "x"},
                                                {"true"},
                                                {"--command-timeout", "2h"}}) {
    std::vector<std::string> words = {"health", "-d", "web01"};
    words.insert(words.end(), wrong.begin(), wrong.end());
    testing::internal::CaptureStderr();
    EXPECT_EQ(parse(words).exit_code, 2) << testing::PrintToString(wrong);
    testing::internal::GetCapturedStderr();
  }
}

TEST(Options, TakeTheConfirmationOfAForce) {
  const Options options = parse({"force", "-d", "web01", "p1", "--yes-i-want-to-force", "web01"});
  EXPECT_EQ(options.verb, Verb::force);
  EXPECT_EQ(options.force.patch, "p1");
  EXPECT_EQ(options.force_confirmation, "web01");
}

}  // namespace
}  // namespace vpatch
