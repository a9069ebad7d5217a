// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/plan_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::rollout {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFile = R"(
name: of-the-file
files: [{kernel: 6.1.0-1, file: a.ko}]
connections: ["qemu:///system"]
domains: {names: ["web*"], except: [web9]}
canary: {names: [web1], soak: 5m}
limits: {parallel: 3}
)";

Result<Plan> with(const PlanFlags& flags, std::string_view file = kFile) {
  return parse_plan(file, "/plans", flags, "/here");
}

TEST(PlanFlags, NothingSaidLeavesTheFileAsItIs) {
  const auto plan = with({});
  ASSERT_TRUE(plan) << plan.error().what;
  EXPECT_EQ(*plan, *parse_plan(kFile, "/plans"));
}

TEST(PlanFlags, MakeAWholePlanAlone) {
  const auto plan = with({.name = "fix",
                          .files = {"6.1.0-1=sub/a.ko", "6.12.1=/b.ko"},
                          .connections = {"qemu:///system"},
                          .canary = "1",
                          .waves = {"10%,5m", "100%"}},
                         "");
  ASSERT_TRUE(plan) << plan.error().what;
  EXPECT_EQ(plan->name, "fix");
  EXPECT_THAT(plan->files, ElementsAre(PlannedFile{"6.1.0-1", "/here/sub/a.ko"},
                                       PlannedFile{"6.12.1", "/b.ko"}));
  ASSERT_TRUE(plan->canary);
  EXPECT_EQ(plan->canary->amount, Amount{1});
  EXPECT_THAT(plan->waves,
              ElementsAre(Wave{{10, Amount::Unit::percent}, std::chrono::minutes(5)},
                          Wave{{100, Amount::Unit::percent}, std::chrono::seconds(0)}));
}

TEST(PlanFlags, LeaveNothingOfTheFileUnread) {
  for (const char* more : {"---\nname: b\n", "\x04\nwrong: 1\n"}) {
    EXPECT_FALSE(with({.name = "mine"}, std::string(kFile) + more)) << more;
  }
  for (const char* value : {"[web1], web2", "[web1] web2", "[web1]\x04, web2"}) {
    const auto plan = with({.settings = {"domains.names=" + std::string(value)}});
    ASSERT_FALSE(plan) << value;
    EXPECT_THAT(plan.error().what, HasSubstr("--set")) << value;
  }
}

TEST(PlanFlags, TakeThePlaceOfWhatTheFileSaysAndOfNothingElse) {
  const auto plan = with({.name = "mine", .names = {"db*"}, .settings = {"limits.budget=5%"}});
  ASSERT_TRUE(plan) << plan.error().what;
  EXPECT_EQ(plan->name, "mine");
  EXPECT_THAT(plan->selection.names, ElementsAre("db*"));
  EXPECT_THAT(plan->selection.except, ElementsAre("web9"));
  EXPECT_EQ(plan->limits.parallel, 3U);
  EXPECT_EQ(plan->limits.budget, (Amount{5, Amount::Unit::percent}));
  EXPECT_EQ(plan->files.front().file, "/plans/a.ko");
}

TEST(PlanFlags, ACanaryAmountKeepsTheSoakOfTheFile) {
  const auto plan = with({.canary = "2"});
  ASSERT_TRUE(plan) << plan.error().what;
  EXPECT_EQ(plan->canary->amount, Amount{2});
  EXPECT_THAT(plan->canary->domains.names, ElementsAre());
  EXPECT_EQ(plan->canary->soak, std::chrono::minutes(5));
}

TEST(PlanFlags, SetTakesListsAndMaps) {
  const auto plan = with({.settings = {"persist=false", "apply={timeout: 20s, quiesce: [do_exit]}",
                                       "domains.groups=[front, back]"}});
  ASSERT_TRUE(plan) << plan.error().what;
  EXPECT_FALSE(plan->persist);
  EXPECT_THAT(plan->apply_options, ElementsAre("--timeout=20s", "--quiesce=do_exit"));
  EXPECT_THAT(plan->selection.groups, ElementsAre("front", "back"));
}

struct Wrong {
  PlanFlags flags;
  const char* says;
};

class WrongFlags : public testing::TestWithParam<Wrong> {};

TEST_P(WrongFlags, AreUsageErrors) {
  const auto plan = with(GetParam().flags);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().outcome, Outcome::usage);
  EXPECT_THAT(plan.error().what, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongFlags,
    testing::Values(Wrong{{.files = {"a.ko"}}, "it is written as KERNEL=FILE"},
                    Wrong{{.files = {"=a.ko"}}, "it is written as KERNEL=FILE"},
                    Wrong{{.settings = {"limits.budget"}}, "it is written as KEY=VALUE"},
                    Wrong{{.settings = {"a.b.c=1"}}, "two with a dot between"},
                    Wrong{{.settings = {".b=1"}}, "two with a dot between"},
                    Wrong{{.settings = {"limits.bugdet=1"}}, "bugdet"},
                    Wrong{{.settings = {"name={a: [}"}}, "flags of the plan"},
                    Wrong{{.settings = {"name.sub=1"}}, ""},
                    Wrong{{.waves = {"10%,soon"}}, "soon is not a duration"},
                    Wrong{{.on_failure = "hope"}, "hope is not one of"}));

TEST(PlanFlags, AFileThatIsNoPlanIsNamedAsSuch) {
  const auto plan = with({.name = "a"}, "- 1\n- 2\n");
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().what, HasSubstr("line 1"));
}

}  // namespace
}  // namespace vpatch::rollout
