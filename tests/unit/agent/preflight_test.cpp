// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/preflight.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};
const ModuleImage kCumulative{.name = "p1", .build_id = "aa11", .replace = true};
const ModuleImage kSameFunction{.name = "old", .build_id = "cc33"};
const ModuleImage kOtherFunction{
    .name = "old", .build_id = "cc33", .objects = {{"vmlinux", true, {"vfs_read,1"}}}};

/// The guest that `prepare` makes of an empty one.
GuestState guest_with(const std::function<void(FakeKernel&)>& prepare) {
  FakeClock clock;
  FakeKernel kernel(clock);
  prepare(kernel);
  return kernel.state();
}

GuestState empty_guest() {
  return guest_with([](FakeKernel&) {});
}

struct Row {
  std::string name;
  std::function<void(FakeKernel&)> guest;
  ModuleImage file;
  std::string loaded_build_id;
  bool allow_stacking;
  ApplyAction action;
  std::vector<std::pair<Severity, std::string>> findings;

  friend void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }
};

std::vector<Row> rows() {
  using enum Severity;
  const ModuleImage ext4{
      .name = "p1", .build_id = "aa11", .objects = {{"ext4", false, {"ext4_sync_fs,1"}}}};
  return {
      {"EmptyGuest", [](FakeKernel&) {}, kPatch, "", false, ApplyAction::load, {}},
      {"OtherRelease",
       [](FakeKernel& kernel) { kernel.release = "6.1.0-other"; },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "kernel-release"}}},
      {"NoLivepatchSupport",
       [](FakeKernel& kernel) { kernel.has_livepatch = false; },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "no-livepatch-support"}}},
      {"OtherReleaseWithoutSupport",
       [](FakeKernel& kernel) {
         kernel.release = "6.1.0-other";
         kernel.has_livepatch = false;
       },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "kernel-release"}, {error, "no-livepatch-support"}}},
      {"NameOfAnOrdinaryModule",
       [](FakeKernel& kernel) { kernel.modules["p1"] = {.flags = "OE"}; },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "name-in-use"}}},
      {"StaleModule",
       [](FakeKernel& kernel) { kernel.modules["p1"] = {}; },
       kPatch,
       "aa11",
       false,
       ApplyAction::replace_stale,
       {}},
      {"InForce",
       [](FakeKernel& kernel) { kernel.put(kPatch); },
       kPatch,
       "aa11",
       false,
       ApplyAction::none,
       {}},
      {"InForceOfAnotherBuild",
       [](FakeKernel& kernel) { kernel.put(kPatch); },
       kPatch,
       "bb22",
       false,
       ApplyAction::refuse,
       {{error, "same-name-other-build"}}},
      {"InForceWithoutBuildIds",
       [](FakeKernel& kernel) { kernel.put(kPatch); },
       {.name = "p1", .build_id = ""},
       "",
       false,
       ApplyAction::refuse,
       {{error, "same-name-other-build"}}},
      {"InTransition",
       [](FakeKernel& kernel) { kernel.put(kPatch, true); },
       kPatch,
       "aa11",
       false,
       ApplyAction::join,
       {}},
      {"BeingUnpatched",
       [](FakeKernel& kernel) {
         kernel.put(kPatch);
         kernel.write_enabled("p1", false);
       },
       kPatch,
       "aa11",
       false,
       ApplyAction::refuse,
       {{error, "busy-transition"}}},
      {"InTransitionOfAnotherBuild",
       [](FakeKernel& kernel) { kernel.put(kPatch, true); },
       kPatch,
       "bb22",
       false,
       ApplyAction::refuse,
       {{error, "same-name-other-build"}, {error, "busy-transition"}}},
      {"OtherPatchInTransition",
       [](FakeKernel& kernel) { kernel.put(kOtherFunction, true); },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "busy-transition"}}},
      {"OtherFunctionPatched",
       [](FakeKernel& kernel) { kernel.put(kOtherFunction); },
       kPatch,
       "",
       false,
       ApplyAction::load,
       {}},
      {"SameFunctionPatched",
       [](FakeKernel& kernel) { kernel.put(kSameFunction); },
       kPatch,
       "",
       false,
       ApplyAction::refuse,
       {{error, "function-conflict"}}},
      {"SameFunctionPatchedWithStacking",
       [](FakeKernel& kernel) { kernel.put(kSameFunction); },
       kPatch,
       "",
       true,
       ApplyAction::load,
       {{warning, "function-conflict"}}},
      {"SameFunctionPatchedByWhatIsReplaced",
       [](FakeKernel& kernel) { kernel.put(kSameFunction); },
       kCumulative,
       "",
       false,
       ApplyAction::load,
       {}},
      {"TargetNotLoaded",
       [](FakeKernel&) {},
       ext4,
       "",
       false,
       ApplyAction::load,
       {{note, "target-not-loaded"}}},
      {"TargetLoaded",
       [](FakeKernel& kernel) { kernel.modules["ext4"] = {.flags = ""}; },
       ext4,
       "",
       false,
       ApplyAction::load,
       {}},
  };
}

class PlanApply : public testing::TestWithParam<Row> {};

TEST_P(PlanApply, DecidesAndSaysWhy) {
  const Row& row = GetParam();
  const ApplyPlan plan = plan_apply(file_of(row.file), guest_with(row.guest), {},
                                    row.loaded_build_id, {.allow_stacking = row.allow_stacking});
  EXPECT_EQ(to_string(plan.action), to_string(row.action));
  std::vector<std::pair<Severity, std::string>> findings;
  findings.reserve(plan.findings.size());
  for (const Finding& finding : plan.findings) {
    findings.emplace_back(finding.severity, finding.id);
  }
  EXPECT_EQ(findings, row.findings);
}

INSTANTIATE_TEST_SUITE_P(Table, PlanApply, testing::ValuesIn(rows()),
                         [](const auto& test) { return test.param.name; });

TEST(PlanApplyFindings, EveryErrorNamesTheNextStep) {
  for (const Row& row : rows()) {
    const ApplyPlan plan =
        plan_apply(file_of(row.file), guest_with(row.guest), {}, row.loaded_build_id, {});
    for (const Finding& finding : plan.findings) {
      EXPECT_TRUE(finding.severity != Severity::error || !finding.hint.empty())
          << row.name << ": " << finding.text;
    }
  }
}

TEST(PlanApplyFindings, AnUnknownContentIsAWarning) {
  LivepatchFile file = file_of(kPatch);
  file.contents.reset();
  file.contents_unknown = "no klp_patch";
  const ApplyPlan plan = plan_apply(file, empty_guest(), {}, "", {});
  EXPECT_EQ(plan.action, ApplyAction::load);
  ASSERT_EQ(plan.findings.size(), 1U);
  EXPECT_EQ(plan.findings[0].id, "contents-unknown");
  EXPECT_EQ(plan.findings[0].severity, Severity::warning);
}

TEST(PlanApplyFindings, AConflictNamesTheFunctionAndTheOtherPatch) {
  const ApplyPlan plan =
      plan_apply(file_of(kPatch), guest_with([](FakeKernel& kernel) { kernel.put(kSameFunction); }),
                 {}, "", {});
  ASSERT_EQ(plan.findings.size(), 1U);
  EXPECT_THAT(plan.findings[0].text,
              HasSubstr("vmlinux:cmdline_proc_show is already changed by old"));
}

TEST(PlanApplyFindings, TheSameFunctionNameInAnotherObjectIsNoConflict) {
  const ModuleImage other{
      .name = "old", .build_id = "cc33", .objects = {{"ext4", true, {"cmdline_proc_show,1"}}}};
  const ApplyPlan plan = plan_apply(
      file_of(kPatch), guest_with([&](FakeKernel& kernel) { kernel.put(other); }), {}, "", {});
  EXPECT_THAT(plan.findings, IsEmpty());
}

TEST(PlanApplyFindings, AFunctionWhoseNameStartsTheSameIsNoConflict) {
  const ModuleImage other{
      .name = "old", .build_id = "cc33", .objects = {{"vmlinux", true, {"cmdline_proc_show2,1"}}}};
  const ApplyPlan plan = plan_apply(
      file_of(kPatch), guest_with([&](FakeKernel& kernel) { kernel.put(other); }), {}, "", {});
  EXPECT_THAT(plan.findings, IsEmpty());
}

TEST(PlanApplyReplaces, ListsEveryOtherPatchForACumulativeOne) {
  const auto guest = guest_with([](FakeKernel& kernel) {
    kernel.put(kOtherFunction);
    kernel.put({.name = "older", .build_id = "dd44"});
  });
  EXPECT_THAT(plan_apply(file_of(kCumulative), guest, {}, "", {}).replaces,
              ElementsAre("old", "older"));
}

TEST(PlanApplyReplaces, IsEmptyForAnOrdinaryPatch) {
  const auto guest = guest_with([](FakeKernel& kernel) { kernel.put(kOtherFunction); });
  EXPECT_THAT(plan_apply(file_of(kPatch), guest, {}, "", {}).replaces, IsEmpty());
}

TEST(PlanApplyReplaces, IsEmptyWhenThePatchIsInForce) {
  const auto guest = guest_with([](FakeKernel& kernel) {
    kernel.put(kOtherFunction);
    kernel.put(kCumulative);
  });
  EXPECT_THAT(plan_apply(file_of(kCumulative), guest, {}, "aa11", {}).replaces, IsEmpty());
}

}  // namespace
}  // namespace vpatch
