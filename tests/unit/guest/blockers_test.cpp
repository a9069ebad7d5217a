// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/blockers.h"

#include <map>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch::introspect {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr GuestVirtAddr kOld(0xffffffff81000000);
constexpr std::uint64_t kOldSize = 0x100;
constexpr GuestVirtAddr kNew1(0xffffffffc0001000);
constexpr GuestVirtAddr kNew2(0xffffffffc0002000);
constexpr std::uint64_t kNewSize = 0x80;

VirtRange code(GuestVirtAddr start, std::uint64_t size) {
  return *VirtRange::make(start, size);
}

/// A livepatch of one function of the kernel, `f`; its klp_func lies at `entry`.
LivePatch patch(std::string name, std::uint64_t entry, GuestVirtAddr new_func) {
  PatchedFunction function;
  function.address = GuestVirtAddr(entry);
  function.name = "f";
  function.old_func = kOld;
  function.old_size = kOldSize;
  function.new_func = new_func;
  function.new_size = kNewSize;
  function.patched = true;
  LivePatch result;
  result.name = std::move(name);
  result.enabled = true;
  result.objects.push_back(
      {.name = "vmlinux", .patched = true, .callbacks = {}, .functions = {function}});
  return result;
}

/// One patch in transition, alone on the function's stack.
LivepatchState transition(std::int32_t target) {
  LivepatchState state;
  state.patches.push_back(patch("p1", 1, kNew1));
  state.func_stacks.push_back({kOld, {GuestVirtAddr(1)}});
  state.transition = 0;
  state.target_state = target;
  return state;
}

/// A second patch in transition, on top of the first.
LivepatchState second_transition(std::int32_t target) {
  LivepatchState state = transition(target);
  state.patches.push_back(patch("p2", 2, kNew2));
  state.func_stacks[0].functions = {GuestVirtAddr(2), GuestVirtAddr(1)};
  state.transition = 1;
  return state;
}

TEST(ForbiddenNow, IsNothingWithoutATransition) {
  LivepatchState state = transition(1);
  state.transition.reset();
  EXPECT_THAT(forbidden_now(state), IsEmpty());
}

TEST(ForbiddenNow, IsTheOriginalWhilePatchingAFunctionForTheFirstTime) {
  EXPECT_THAT(forbidden_now(transition(1)),
              ElementsAre(ForbiddenFunction{"vmlinux", "f", code(kOld, kOldSize)}));
}

TEST(ForbiddenNow, IsTheNewFunctionWhileUnpatching) {
  EXPECT_THAT(forbidden_now(transition(0)),
              ElementsAre(ForbiddenFunction{"vmlinux", "f", code(kNew1, kNewSize)}));
}

TEST(ForbiddenNow, IsTheReplacementBelowWhilePatchingAgain) {
  EXPECT_THAT(forbidden_now(second_transition(1)),
              ElementsAre(ForbiddenFunction{"vmlinux", "f", code(kNew1, kNewSize)}));
}

TEST(ForbiddenNow, IsAllCodeWhereWhatWasInForceCannotBeTold) {
  LivepatchState state = second_transition(1);
  state.func_stacks[0].functions[1] = GuestVirtAddr(99);  // of no patch that is listed
  const auto forbidden = forbidden_now(state);
  ASSERT_THAT(forbidden, SizeIs(1));
  EXPECT_TRUE(forbidden[0].code.holds(kOld, kOldSize));
  EXPECT_TRUE(forbidden[0].code.holds(kNew2, kNewSize));
}

TEST(ForbiddenNow, IsAllCodeWhereAFunctionHasNoSize) {
  LivepatchState state = transition(0);
  state.patches[0].objects[0].functions[0].new_size = 0;
  const auto forbidden = forbidden_now(state);
  ASSERT_THAT(forbidden, SizeIs(1));
  EXPECT_TRUE(forbidden[0].code.holds(kOld, kOldSize));
}

TEST(ForbiddenNow, LeavesOutObjectsThatAreNotLoaded) {
  LivepatchState state = transition(1);
  state.patches[0].objects[0].patched = false;
  EXPECT_THAT(forbidden_now(state), IsEmpty());
}

TEST(ForbiddenNow, TakesAnIndexOutOfRangeForNoTransition) {
  LivepatchState state = transition(1);
  state.transition = 7;
  EXPECT_THAT(forbidden_now(state), IsEmpty());
}

/// Symbols by name, all in vmlinux.
SymbolsNamed symbols(std::map<std::string, std::vector<Symbol>, std::less<>> table) {
  return [table = std::move(table)](std::string_view object,
                                    std::string_view name) -> Result<std::vector<Symbol>> {
    if (object != "vmlinux") {
      return fail(Errc::not_found, "not loaded");
    }
    const auto found = table.find(name);
    return found == table.end() ? std::vector<Symbol>() : found->second;
  };
}

SymbolsNamed one_f() {
  return symbols({{"f", {{"f", kOld, kOldSize, 't'}}}});
}

const std::vector<FunctionToChange> kChangeF = {{"vmlinux", "f", 0}};

TEST(PredictForbidden, TakesTheOriginalOfAFunctionNotYetPatched) {
  EXPECT_THAT(predict_forbidden(one_f(), {}, kChangeF, false).forbidden,
              ElementsAre(ForbiddenFunction{"vmlinux", "f", code(kOld, kOldSize)}));
}

TEST(PredictForbidden, TakesTheReplacementInForceOfAPatchedFunction) {
  LivepatchState state = second_transition(1);
  EXPECT_THAT(predict_forbidden(one_f(), state, kChangeF, false).forbidden,
              ElementsAre(ForbiddenFunction{"vmlinux", "f", code(kNew2, kNewSize)}));
}

TEST(PredictForbidden, AddsWhatAReplacePatchTakesBack) {
  const auto other = symbols({{"g", {{"g", GuestVirtAddr(0xffffffff81005000), 0x40, 't'}}}});
  const std::vector<FunctionToChange> change_g = {{"vmlinux", "g", 0}};
  const auto prediction = predict_forbidden(other, transition(1), change_g, true);
  ASSERT_THAT(prediction.forbidden, SizeIs(2));
  EXPECT_EQ(prediction.forbidden[1], (ForbiddenFunction{"vmlinux", "f", code(kNew1, kNewSize)}));
}

TEST(PredictForbidden, ReplaceNamesEachFunctionOnce) {
  EXPECT_THAT(predict_forbidden(one_f(), transition(1), kChangeF, true).forbidden, SizeIs(1));
}

TEST(PredictForbidden, PicksTheSymbolAtThePosition) {
  const GuestVirtAddr second(0xffffffff81009000);
  const auto two = symbols({{"f", {{"f", kOld, kOldSize, 't'}, {"f", second, 0x20, 't'}}}});
  const std::vector<FunctionToChange> at_two = {{"vmlinux", "f", 2}};
  EXPECT_EQ(predict_forbidden(two, {}, at_two, false).forbidden.at(0).code, code(second, 0x20));
}

TEST(PredictForbidden, CallsAnAmbiguousNameUnknown) {
  const auto two = symbols({{"f", {{"f", kOld, kOldSize, 't'}, {"f", kNew1, 0x20, 't'}}}});
  const auto prediction = predict_forbidden(two, {}, kChangeF, false);
  EXPECT_THAT(prediction.forbidden, IsEmpty());
  EXPECT_THAT(prediction.unknown, ElementsAre(HasSubstr("2 symbols have this name")));
}

TEST(PredictForbidden, CallsAMissingSymbolUnknown) {
  const std::vector<FunctionToChange> missing = {{"vmlinux", "nope", 0}};
  EXPECT_THAT(predict_forbidden(one_f(), {}, missing, false).unknown,
              ElementsAre(HasSubstr("no such symbol")));
}

TEST(PredictForbidden, LeavesOutModulesThatAreNotLoaded) {
  const std::vector<FunctionToChange> absent = {{"ext4", "f", 0}};
  const auto prediction = predict_forbidden(one_f(), {}, absent, false);
  EXPECT_THAT(prediction.forbidden, IsEmpty());
  EXPECT_THAT(prediction.unknown, IsEmpty());
}

TEST(PredictForbidden, CallsAPositionPastTheLastUnknown) {
  const std::vector<FunctionToChange> at_two = {{"vmlinux", "f", 2}};
  EXPECT_THAT(predict_forbidden(one_f(), {}, at_two, false).unknown, SizeIs(1));
}

TaskStack sleeper(std::vector<GuestVirtAddr> addresses) {
  TaskStack stack;
  stack.activity = Activity::asleep;
  for (const GuestVirtAddr address : addresses) {
    stack.trace.frames.push_back({address, false, StackKind::task});
  }
  return stack;
}

const std::vector<ForbiddenFunction> kForbidden = {{"vmlinux", "f", code(kOld, kOldSize)}};

GuestVirtAddr after(GuestVirtAddr start, std::uint64_t offset) {
  return GuestVirtAddr(start.value() + offset);
}

TEST(FindBlockers, PassesASleeperWithACleanStack) {
  const std::vector<TaskStack> tasks = {sleeper({kNew1, kNew2})};
  EXPECT_THAT(find_blockers(tasks, kForbidden), IsEmpty());
}

TEST(FindBlockers, NamesTheFrameAndTheFunction) {
  const std::vector<TaskStack> tasks = {sleeper({}), sleeper({kNew1, after(kOld, 0x10)})};
  const auto blockers = find_blockers(tasks, kForbidden);
  ASSERT_THAT(blockers, SizeIs(1));
  EXPECT_EQ(blockers[0].task, 1U);
  EXPECT_EQ(blockers[0].reason, BlockReason::on_stack);
  EXPECT_EQ(blockers[0].frame, 1U);
  EXPECT_EQ(blockers[0].function, 0U);
  EXPECT_TRUE(blockers[0].holds());
}

/// The kernel compares plain return addresses with [start, start + size).
TEST(FindBlockers, CountsTheFirstByteOfAFunctionAndNotTheOneAfterIt) {
  const std::vector<TaskStack> tasks = {sleeper({kOld}), sleeper({after(kOld, kOldSize)})};
  const auto blockers = find_blockers(tasks, kForbidden);
  ASSERT_THAT(blockers, SizeIs(1));
  EXPECT_EQ(blockers[0].task, 0U);
}

TEST(FindBlockers, NeverCallsAnUnreliableStackClean) {
  TaskStack stack = sleeper({kNew1});
  stack.trace.unreliable = Unreliable::no_orc;
  const auto blockers = find_blockers(std::vector{stack}, kForbidden);
  ASSERT_THAT(blockers, SizeIs(1));
  EXPECT_EQ(blockers[0].reason, BlockReason::unreliable);
  EXPECT_TRUE(blockers[0].holds());
}

TEST(FindBlockers, NamesTheFunctionAlsoOnAnUnreliableStack) {
  TaskStack stack = sleeper({after(kOld, 8)});
  stack.trace.unreliable = Unreliable::no_orc;
  EXPECT_EQ(find_blockers(std::vector{stack}, kForbidden).at(0).reason, BlockReason::on_stack);
}

class RunningTask : public testing::TestWithParam<std::pair<Activity, BlockReason>> {};

TEST_P(RunningTask, IsToldApartAndHoldsNothing) {
  TaskStack stack;
  stack.activity = GetParam().first;
  const auto blockers = find_blockers(std::vector{stack}, kForbidden);
  ASSERT_THAT(blockers, SizeIs(1));
  EXPECT_EQ(blockers[0].reason, GetParam().second);
  EXPECT_FALSE(blockers[0].holds());
}

INSTANTIATE_TEST_SUITE_P(Activities, RunningTask,
                         testing::Values(std::pair(Activity::in_kernel, BlockReason::in_kernel),
                                         std::pair(Activity::in_user, BlockReason::in_user),
                                         std::pair(Activity::running, BlockReason::running)));

}  // namespace
}  // namespace vpatch::introspect
