// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::bench {
namespace {

Transition took(double ms, bool at_least = false) {
  return {.took = {ms, at_least}};
}

Transition paused(double ms) {
  Transition transition = took(5);
  transition.help.pauses = 1;
  transition.help.paused_ms = ms;
  return transition;
}

Row row_of(std::vector<Transition> stock, std::vector<Transition> assisted, Bars bars = {}) {
  return {.kernel = "6.1",
          .scenario = "S2",
          .stock = std::move(stock),
          .assisted = std::move(assisted),
          .bars = bars};
}

std::vector<bool> met(const Row& row) {
  std::vector<bool> answers;
  for (const Verdict& verdict : verdicts_of(row)) {
    answers.push_back(verdict.met);
  }
  return answers;
}

TEST(TransitionSummary, MedianIsTheMiddleOrTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(median({{9}, {1}, {4}}).ms, 4);
  EXPECT_EQ(median({{9}, {1}, {4}, {6}}).ms, 5);
}

TEST(TransitionSummary, MedianIsAFloorOnlyWhereWhatWasGivenUpIsInTheMiddle) {
  EXPECT_TRUE(median({{30'000, true}, {30'000, true}, {4}}).at_least);
  EXPECT_TRUE(median({{30'000, true}, {4}}).at_least);
  EXPECT_FALSE(median({{30'000, true}, {5}, {4}}).at_least);
}

TEST(TransitionSummary, LongestIsAFloorWhenItWasGivenUp) {
  EXPECT_TRUE(longest({{4}, {30'000, true}, {5}}).at_least);
  EXPECT_TRUE(longest({{30'000}, {30'000, true}}).at_least);
  EXPECT_EQ(longest({{4}, {7}, {5}}).ms, 7);
}

TEST(TransitionSummary, RatioOfWhatTheKernelCouldNotEndIsAFloor) {
  const auto row = row_of({took(30'000, true)}, {took(10), took(20)});
  const Timing ratio = ratio_of(row).value_or(Timing());
  EXPECT_EQ(ratio.ms, 2000);
  EXPECT_TRUE(ratio.at_least);
}

TEST(TransitionSummary, NothingIsPromisedOfARowWithOneSide) {
  EXPECT_FALSE(ratio_of(row_of({}, {took(10)})));
  EXPECT_THAT(met(row_of({took(10)}, {}, {.ratio = 40})), testing::IsEmpty());
}

TEST(TransitionSummary, HoldsTheRatioOfTheMedians) {
  EXPECT_THAT(met(row_of({took(400)}, {took(10)}, {.ratio = 40})),
              testing::ElementsAre(true, true));
  EXPECT_THAT(met(row_of({took(399)}, {took(10)}, {.ratio = 40})),
              testing::ElementsAre(false, true));
}

TEST(TransitionSummary, HoldsTheLongestAssistedOne) {
  const Bars bars{.longest_ms = 100};
  EXPECT_THAT(met(row_of({took(1)}, {took(10), took(100)}, bars)),
              testing::ElementsAre(true, true));
  EXPECT_THAT(met(row_of({took(1)}, {took(10), took(101)}, bars)),
              testing::ElementsAre(false, true));
}

TEST(TransitionSummary, NoSlowerAllowsForNoise) {
  const Bars bars{.no_slower = true};
  EXPECT_THAT(met(row_of({took(2)}, {took(2.9)}, bars)), testing::ElementsAre(true, true));
  EXPECT_THAT(met(row_of({took(2)}, {took(3.1)}, bars)), testing::ElementsAre(false, true));
  EXPECT_THAT(met(row_of({took(1000)}, {took(1099)}, bars)), testing::ElementsAre(true, true));
  EXPECT_THAT(met(row_of({took(1000)}, {took(1101)}, bars)), testing::ElementsAre(false, true));
}

TEST(TransitionSummary, HoldsTheMedianOfThePausesThatWere) {
  EXPECT_THAT(met(row_of({took(9)}, {took(5), took(5), paused(12)})), testing::ElementsAre(false));
  EXPECT_THAT(met(row_of({took(9)}, {paused(3), paused(4), paused(12)})),
              testing::ElementsAre(true));
  EXPECT_THAT(met(row_of({took(9)}, {took(5)})), testing::ElementsAre(true));
}

TEST(TransitionSummary, OnePauseIsTooManyWhereNoneIsAllowed) {
  const Bars bars{.no_pause = true};
  EXPECT_THAT(met(row_of({took(9)}, {took(5), took(5)}, bars)), testing::ElementsAre(true));
  EXPECT_THAT(met(row_of({took(9)}, {took(5), paused(1)}, bars)), testing::ElementsAre(false));
}

TEST(TransitionSummary, AddsUpWhatWasDone) {
  const Transition one{.help = {.retries = 2, .rescheds = 1, .pauses = 1, .paused_ms = 3}};
  const Transition other{.help = {.retries = 1, .signals = 4, .switches = 1, .paused_ms = 2}};
  const Help sum = sum_of({one, other});
  EXPECT_EQ(sum.retries, 3U);
  EXPECT_EQ(sum.rescheds, 1U);
  EXPECT_EQ(sum.signals, 4U);
  EXPECT_EQ(sum.switches, 1U);
  EXPECT_EQ(sum.pauses, 1U);
  EXPECT_EQ(sum.paused_ms, 5);
}

}  // namespace
}  // namespace vpatch::bench
