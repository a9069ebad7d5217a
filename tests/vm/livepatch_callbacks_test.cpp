// SPDX-License-Identifier: Apache-2.0
// Which callbacks run, and in which order: each scenario in which the kernel calls them, against
// what they say in the guest's log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/livepatch_fixture.h"

namespace vpatch::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Callbacks : public LivepatchTest {
 protected:
  void SetUp() override {
    LivepatchTest::SetUp();
    rmmod("vpatch_target");
  }

  static void expect_done(const Answer& answer) { EXPECT_EQ(answer.exit_code, 0) << answer; }
};

TEST_F(Callbacks, TargetIsLoadedBeforeThePatch) {
  insmod("vpatch_target");
  expect_done(apply_patch("vpatch_callbacks"));
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks: post_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vpatch_target"));
}

TEST_F(Callbacks, TargetIsLoadedAfterThePatch) {
  expect_done(apply_patch("vpatch_callbacks"));
  insmod("vpatch_target");
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: post_patch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks: post_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vpatch_target"));
}

TEST_F(Callbacks, TargetIsUnloadedWhilePatched) {
  insmod("vpatch_target");
  expect_done(apply_patch("vpatch_callbacks"));
  rmmod("vpatch_target");
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks: post_unpatch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vmlinux"));
}

TEST_F(Callbacks, TargetComesAndGoesUnderThePatch) {
  expect_done(apply_patch("vpatch_callbacks"));
  insmod("vpatch_target");
  rmmod("vpatch_target");
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: post_patch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks: post_unpatch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vmlinux"));
}

TEST_F(Callbacks, TargetIsNeverLoaded) {
  expect_done(apply_patch("vpatch_callbacks"));
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vmlinux"));
}

TEST_F(Callbacks, FailingPrePatchRefusesTheLoad) {
  insmod("vpatch_target");
  const Answer answer = apply_patch("vpatch_callbacks_fail");
  EXPECT_EQ(answer.exit_code, 7) << answer;
  EXPECT_THAT(callbacks(), testing::Contains("vpatch_callbacks_fail: pre_patch: vmlinux").Times(1));
  for (const char* never :
       {": pre_patch: vpatch_target", ": post_patch", ": pre_unpatch", ": post_unpatch"}) {
    EXPECT_THAT(callbacks(), Each(testing::Not(HasSubstr(never))));
  }
  EXPECT_EQ(in_force(), "");
}

TEST_F(Callbacks, FailingPrePatchRefusesTheTargetModule) {
  expect_done(apply_patch("vpatch_callbacks"));
  vm().guest("echo -19 >/sys/module/vpatch_callbacks/parameters/pre_patch_ret");
  EXPECT_THAT(refused_insmod("vpatch_target"), HasSubstr("No such device"));
  EXPECT_FALSE(is_loaded("vpatch_target"));
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vmlinux"));
}

TEST_F(Callbacks, SeveralTargetsComeAndGoOnTheirOwn) {
  insmod("vpatch_pair");
  expect_done(apply_patch("vpatch_callbacks_busy"));
  insmod("vpatch_target");
  rmmod("vpatch_target");
  expect_done(revert_patch("vpatch_callbacks_busy"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks_busy: pre_patch: vmlinux",
                                       "vpatch_callbacks_busy: pre_patch: vpatch_pair",
                                       "vpatch_callbacks_busy: post_patch: vmlinux",
                                       "vpatch_callbacks_busy: post_patch: vpatch_pair",
                                       "vpatch_callbacks_busy: pre_patch: vpatch_target",
                                       "vpatch_callbacks_busy: post_patch: vpatch_target",
                                       "vpatch_callbacks_busy: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks_busy: post_unpatch: vpatch_target",
                                       "vpatch_callbacks_busy: pre_unpatch: vmlinux",
                                       "vpatch_callbacks_busy: pre_unpatch: vpatch_pair",
                                       "vpatch_callbacks_busy: post_unpatch: vmlinux",
                                       "vpatch_callbacks_busy: post_unpatch: vpatch_pair"));
}

/// Nothing has been patched when the transition is reversed: there is nothing to prepare for its
/// end, and so neither post-patch nor pre-unpatch.
TEST_F(Callbacks, BusyTargetStallsTheTransitionWhichIsReversed) {
  insmod("vpatch_target");
  block();
  const Answer stalled =
      apply_patch("vpatch_callbacks_busy", {"--timeout", "1", "--on-stall", "wait"});
  EXPECT_EQ(stalled.exit_code, 5) << stalled;
  insmod("vpatch_pair");
  rmmod("vpatch_pair");
  expect_done(revert_patch("vpatch_callbacks_busy"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks_busy: pre_patch: vmlinux",
                                       "vpatch_callbacks_busy: pre_patch: vpatch_target",
                                       "vpatch_callbacks_busy: pre_patch: vpatch_pair",
                                       "vpatch_callbacks_busy: post_unpatch: vpatch_pair",
                                       "vpatch_callbacks_busy: post_unpatch: vmlinux",
                                       "vpatch_callbacks_busy: post_unpatch: vpatch_target"));
}

TEST_F(Callbacks, StackedPatchesHaveTheirOwn) {
  expect_done(apply_patch("vpatch_callbacks"));
  expect_done(apply_patch("vpatch_callbacks_busy"));
  expect_done(revert_patch("vpatch_callbacks_busy"));
  expect_done(revert_patch("vpatch_callbacks"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks_busy: pre_patch: vmlinux",
                                       "vpatch_callbacks_busy: post_patch: vmlinux",
                                       "vpatch_callbacks_busy: pre_unpatch: vmlinux",
                                       "vpatch_callbacks_busy: post_unpatch: vmlinux",
                                       "vpatch_callbacks: pre_unpatch: vmlinux",
                                       "vpatch_callbacks: post_unpatch: vmlinux"));
}

TEST_F(Callbacks, ReplaceRunsOnlyThoseOfTheNewPatch) {
  insmod("vpatch_target");
  expect_done(apply_patch("vpatch_callbacks"));
  expect_done(apply_patch("vpatch_callbacks_replace", {"--grace", "0"}));
  expect_done(revert_patch("vpatch_callbacks_replace"));
  EXPECT_THAT(callbacks(), ElementsAre("vpatch_callbacks: pre_patch: vmlinux",
                                       "vpatch_callbacks: pre_patch: vpatch_target",
                                       "vpatch_callbacks: post_patch: vmlinux",
                                       "vpatch_callbacks: post_patch: vpatch_target",
                                       "vpatch_callbacks_replace: pre_patch: vmlinux",
                                       "vpatch_callbacks_replace: pre_patch: vpatch_target",
                                       "vpatch_callbacks_replace: post_patch: vmlinux",
                                       "vpatch_callbacks_replace: post_patch: vpatch_target",
                                       "vpatch_callbacks_replace: pre_unpatch: vmlinux",
                                       "vpatch_callbacks_replace: pre_unpatch: vpatch_target",
                                       "vpatch_callbacks_replace: post_unpatch: vmlinux",
                                       "vpatch_callbacks_replace: post_unpatch: vpatch_target"));
}

}  // namespace
}  // namespace vpatch::test
