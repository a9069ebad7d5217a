// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/selection.h"

#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::rollout {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kRelease = "6.1.0-56-cloud-amd64";
constexpr const char* kBuildId = "0123456789abcdef0123456789abcdef01234567";

Plan plan_of(Selection selection = {}) {
  Plan plan;
  plan.files = {{kRelease, "/a.ko"}, {kBuildId, "/b.ko"}};
  plan.selection = std::move(selection);
  return plan;
}

Target target(const std::string& name, std::vector<std::string> groups = {}) {
  return {"qemu:///system", name, "id-of-" + name, std::move(groups), kRelease, "", true};
}

std::vector<std::string> chosen(const Plan& plan, const std::vector<Target>& targets) {
  const auto selected = select(plan, targets);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (selected.at(i).choice == Choice::chosen) {
      names.push_back(targets[i].name);
    } else {
      EXPECT_EQ(selected[i].choice, Choice::not_selected) << targets[i].name;
    }
  }
  return names;
}

TEST(Select, TakesAllWhereNothingIsNamed) {
  EXPECT_THAT(chosen(plan_of(), {target("web01"), target("db01")}), ElementsAre("web01", "db01"));
}

TEST(Select, TakesGlobsAndPlainNames) {
  const auto plan = plan_of({{}, {"web*", "db[0-4]?", "mail"}, {}, {}});
  EXPECT_THAT(chosen(plan, {target("web"), target("web01"), target("aweb"), target("db01"),
                            target("db51"), target("db0"), target("mail"), target("mail2")}),
              ElementsAre("web", "web01", "db01", "mail"));
}

TEST(Select, TakesAnEscapedStarAsAStar) {
  const auto plan = plan_of({{}, {"a\\*b"}, {}, {}});
  EXPECT_THAT(chosen(plan, {target("a*b"), target("aXb")}), ElementsAre("a*b"));
}

TEST(Select, TakesGroupsNextToNames) {
  const auto plan = plan_of({{}, {"db*"}, {"front"}, {}});
  EXPECT_THAT(chosen(plan, {target("web01", {"x", "front"}), target("db01"),
                            target("web02", {"fro"}), target("front")}),
              ElementsAre("web01", "db01"));
}

TEST(Select, LeavesOutWhatIsExcepted) {
  const auto plan = plan_of({{}, {"web*"}, {"front"}, {"*9", "web02"}});
  EXPECT_THAT(
      chosen(plan, {target("web01"), target("web02"), target("web19"), target("x9", {"front"})}),
      ElementsAre("web01"));
}

TEST(Select, ExceptsAlsoFromAll) {
  EXPECT_THAT(chosen(plan_of({{}, {}, {}, {"db*"}}), {target("web01"), target("db01")}),
              ElementsAre("web01"));
}

TEST(Select, TakesOnlyThePlansConnections) {
  auto other = target("web02");
  other.connection = "qemu+ssh://b/system";
  EXPECT_THAT(chosen(plan_of({{"qemu:///system"}, {}, {}, {}}), {target("web01"), other}),
              ElementsAre("web01"));
}

TEST(Select, GivesTheFileOfTheRelease) {
  const auto selected = select(plan_of(), std::vector{target("web01")});
  EXPECT_EQ(selected.at(0).file, 0U);
}

TEST(Select, GivesTheFileOfTheBuildIdBeforeThatOfTheRelease) {
  auto web = target("web01");
  web.build_id = kBuildId;
  EXPECT_EQ(select(plan_of(), std::vector{web}).at(0).file, 1U);
  web.kernel_release = "other";
  EXPECT_EQ(select(plan_of(), std::vector{web}).at(0).file, 1U);
}

TEST(Select, GivesNoFileToAKernelThatThePlanDoesNotName) {
  for (const char* release :
       {"6.1.0-57-cloud-amd64", "6.1.0-56-cloud-amd6", "6.1.0-56-CLOUD-amd64"}) {
    auto web = target("web01");
    web.kernel_release = release;
    web.build_id = "ff";
    const auto selected = select(plan_of(), std::vector{web}).at(0);
    EXPECT_EQ(selected.choice, Choice::unmatched);
    EXPECT_EQ(selected.file, std::nullopt);
    EXPECT_THAT(selected.why, HasSubstr(release));
    EXPECT_THAT(selected.why, HasSubstr("build id ff"));
  }
}

TEST(Select, GivesNoFileToAnUnknownKernel) {
  auto web = target("web01");
  web.kernel_release.clear();
  auto plan = plan_of();
  plan.files.push_back({"", "/c.ko"});
  const auto selected = select(plan, std::vector{web}).at(0);
  EXPECT_EQ(selected.choice, Choice::unmatched);
  EXPECT_THAT(selected.why, HasSubstr("not known"));
}

TEST(Select, DoesNotTakeADomainThatIsOff) {
  auto web = target("web01");
  web.running = false;
  EXPECT_EQ(select(plan_of(), std::vector{web}).at(0).choice, Choice::off);
}

TEST(Select, MakesTextOfTheGuestFitForATerminal) {
  auto web = target("web01");
  web.kernel_release = "\x1b[2J";
  EXPECT_EQ(select(plan_of(), std::vector{web}).at(0).why.find('\x1b'), std::string::npos);
}

/// The same domain on connections a, b, ...
std::vector<Target> shown_by(const std::vector<bool>& running) {
  std::vector<Target> targets;
  for (const bool runs : running) {
    targets.push_back(target("web01"));
    targets.back().connection = std::string(1, static_cast<char>('a' + targets.size() - 1));
    targets.back().running = runs;
  }
  return targets;
}

std::vector<Choice> choices(const std::vector<Target>& targets) {
  std::vector<Choice> made;
  for (const auto& one : select(plan_of(), targets)) {
    made.push_back(one.choice);
  }
  return made;
}

TEST(Select, TakesADuplicateWhereItAloneRuns) {
  const auto targets = shown_by({false, true, false});
  EXPECT_THAT(choices(targets), ElementsAre(Choice::duplicate, Choice::chosen, Choice::duplicate));
  EXPECT_THAT(select(plan_of(), targets).at(2).why, HasSubstr("b shows the same domain"));
}

TEST(Select, TakesNoneOfDuplicatesThatRunTwice) {
  const auto targets = shown_by({true, true, false});
  EXPECT_THAT(choices(targets),
              ElementsAre(Choice::duplicate, Choice::duplicate, Choice::duplicate));
  EXPECT_THAT(select(plan_of(), targets).at(0).why, HasSubstr("b shows the same domain"));
  EXPECT_THAT(select(plan_of(), targets).at(1).why, HasSubstr("a shows the same domain"));
}

TEST(Select, TakesNoneOfDuplicatesThatAreOff) {
  EXPECT_THAT(choices(shown_by({false, false})), ElementsAre(Choice::duplicate, Choice::duplicate));
}

TEST(Select, DoesNotCountADuplicateThatThePlanDoesNotTake) {
  const auto targets = shown_by({true, true});
  const auto selected = select(plan_of({{"a"}, {}, {}, {}}), targets);
  EXPECT_EQ(selected.at(0).choice, Choice::chosen);
  EXPECT_EQ(selected.at(1).choice, Choice::not_selected);
}

TEST(CheckGlob, HasBounds) {
  EXPECT_TRUE(check_glob("a*b?[a-z]"));
  EXPECT_TRUE(check_glob(std::string(256, 'a')));
  EXPECT_TRUE(check_glob("********"));
  EXPECT_FALSE(check_glob(""));
  EXPECT_FALSE(check_glob(std::string(257, 'a')));
  EXPECT_FALSE(check_glob("*********"));
}

TEST(Matcher, IsQuickOnTheWorstGlobs) {
  // Eight stars that nearly match: one that goes back for each of them would take years.
  Selection selection;
  selection.names = {"*a*a*a*a*a*a*a*b"};
  const Matcher matcher(selection);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(matcher.matches(target(std::string(4096, 'a'))));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(Matcher, MatchesNoGlobWithAnOverlongName) {
  Selection selection;
  selection.names = {"*"};
  EXPECT_TRUE(Matcher(selection).matches(target(std::string(4096, 'a'))));
  EXPECT_FALSE(Matcher(selection).matches(target(std::string(4097, 'a'))));
}

}  // namespace
}  // namespace vpatch::rollout
