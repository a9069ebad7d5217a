// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout_options.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm-agent/cli/options.h"

namespace vpatch {
namespace {

using testing::ElementsAre;

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), {"vpatch", "rollout"});
  std::vector<char*> argv;
  argv.reserve(words.size());
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

TEST(RolloutOptions, StartTakesAPlan) {
  const Options options = parse({"start", "plan.yaml", "-n", "--skip-unreachable", "--json"});
  EXPECT_EQ(options.rollout.verb, RolloutVerb::start);
  EXPECT_EQ(options.rollout.plan, "plan.yaml");
  EXPECT_TRUE(options.rollout.dry_run);
  EXPECT_TRUE(options.rollout.skip_unreachable);
  EXPECT_TRUE(options.rollout.flags.empty());
  EXPECT_TRUE(options.json);
}

TEST(RolloutOptions, StartTakesFlagsInsteadOfAPlan) {
  const Options options = parse({"start",
                                 "--name",
                                 "fix",
                                 "--file",
                                 "6.1=a.ko",
                                 "--file",
                                 "6.2=b.ko",
                                 "-c",
                                 "qemu:///system",
                                 "-c",
                                 "qemu+ssh://h/system",
                                 "-d",
                                 "web*",
                                 "--group",
                                 "g",
                                 "--except",
                                 "x",
                                 "--canary",
                                 "1",
                                 "--wave",
                                 "10%,5m",
                                 "--wave",
                                 "100%",
                                 "--on-failure",
                                 "rollback",
                                 "--set",
                                 "limits.budget=5%"});
  const rollout::PlanFlags& flags = options.rollout.flags;
  EXPECT_TRUE(options.rollout.plan.empty());
  EXPECT_EQ(flags.name, "fix");
  EXPECT_THAT(flags.files, ElementsAre("6.1=a.ko", "6.2=b.ko"));
  EXPECT_THAT(flags.connections, ElementsAre("qemu:///system", "qemu+ssh://h/system"));
  EXPECT_THAT(flags.names, ElementsAre("web*"));
  EXPECT_THAT(flags.groups, ElementsAre("g"));
  EXPECT_THAT(flags.except, ElementsAre("x"));
  EXPECT_EQ(flags.canary, "1");
  EXPECT_THAT(flags.waves, ElementsAre("10%,5m", "100%"));
  EXPECT_EQ(flags.on_failure, "rollback");
  EXPECT_THAT(flags.settings, ElementsAre("limits.budget=5%"));
}

TEST(RolloutOptions, FlagDoesNotSwallowThePlan) {
  const Options options = parse({"start", "--set", "limits.budget=1", "plan.yaml"});
  EXPECT_EQ(options.rollout.plan, "plan.yaml");
  EXPECT_THAT(options.rollout.flags.settings, ElementsAre("limits.budget=1"));
}

TEST(RolloutOptions, NameMayBeLeftOut) {
  EXPECT_EQ(parse({"status"}).rollout.verb, RolloutVerb::status);
  EXPECT_EQ(parse({"status"}).rollout.name, "");
  EXPECT_EQ(parse({"resume", "fix"}).rollout.name, "fix");
}

TEST(RolloutOptions, CommandsTakeAReason) {
  for (const char* const word : {"pause", "resume", "abort", "rollback"}) {
    EXPECT_EQ(parse({word, "fix", "--why", "it smokes"}).rollout.why, "it smokes") << word;
  }
}

TEST(RolloutOptions, ReportGoesToAFile) {
  const Options options = parse({"report", "fix", "-o", "-"});
  EXPECT_EQ(options.rollout.verb, RolloutVerb::report);
  EXPECT_EQ(options.rollout.output, "-");
}

TEST(RolloutOptions, WrongLinesAreUsage) {
  const std::vector<std::vector<std::string>> wrong = {{},
                                                       {"start"},
                                                       {"start", "a.yaml", "b.yaml"},
                                                       {"status", "--why", "x"},
                                                       {"list", "fix"},
                                                       {"pause", "a", "b"}};
  for (const auto& words : wrong) {
    EXPECT_EQ(parse(words).exit_code, 2) << testing::PrintToString(words);
  }
}

}  // namespace
}  // namespace vpatch
