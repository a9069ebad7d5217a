// SPDX-License-Identifier: Apache-2.0
#include "introspect/stacks/unwinder.h"

#include <gtest/gtest.h>

#include "fake_stack.h"

namespace vpatch::introspect {
namespace {

using namespace testing;

constexpr RawOrc kEndOfStack{.type = kEnd};
constexpr RawOrc kRegsHere{.sp_reg = kSp, .type = kRegs, .signal = true};
constexpr RawOrc kIretHere{.sp_reg = kSp, .type = kRegsPartial, .signal = true};

TEST_F(UnwindTest, FollowsCallsToTheEndMarker) {
  define(0, call_frame(0x18));
  define(1, call_frame(0x30));
  define(2, kEndOfStack);
  push(0x18, in(1));
  push(0x30, in(2));
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), (Addresses{in(0), in(1), in(2)}));
  EXPECT_TRUE(trace.reliable());
}

TEST_F(UnwindTest, EndsWellAtUserRegisters) {
  define(0, call_frame(0x10));
  define(1, {.sp_reg = kSp, .type = kRegs});
  push(0x10, in(1));
  push_regs({.ip = 0x401000, .cs = kUserCs, .sp = 0x7ffc0000});
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), (Addresses{in(0), in(1)}));
  EXPECT_TRUE(trace.reliable());
}

TEST_F(UnwindTest, EndsWellAtAnInterruptFrameFromUserMode) {
  define(0, kIretHere);
  put(kFirst, 0x401000);
  put(kFirst + 8, kUserCs);
  put(kFirst + 16, 0);
  put(kFirst + 24, 0x7ffc0000);
  put(kFirst + 32, 0x2b);
  EXPECT_TRUE(walk().reliable());
}

TEST_F(UnwindTest, FindsAFrameByTheFramePointerItsCalleeSaved) {
  define(0,
         {.sp_offset = 0x18, .bp_offset = -0x10, .sp_reg = kSp, .bp_reg = kPrevSp, .type = kCall});
  define(1, {.sp_offset = 0x10, .sp_reg = kBp, .type = kCall});
  define(2, kEndOfStack);
  push(0x18, in(1));
  const std::uint64_t frame_pointer = top + 0x40;
  put(top - 0x10, frame_pointer);
  put(frame_pointer + 8, in(2));
  EXPECT_EQ(addresses(walk()), (Addresses{in(0), in(1), in(2)}));
}

TEST_F(UnwindTest, KeepsTheFramePointerOfFunctionsThatLeaveItAlone) {
  define(0, call_frame(0x10));
  define(1, {.sp_offset = 0x10, .sp_reg = kBp, .type = kCall});
  define(2, kEndOfStack);
  push(0x10, in(1));
  auto start = sleeper();
  start.bp = top + 0x40;
  put(top + 0x48, in(2));
  EXPECT_EQ(addresses(walk(start)), (Addresses{in(0), in(1), in(2)}));
}

TEST_F(UnwindTest, LeavesTheInterruptStackThroughThePointerOnIt) {
  define(0, {.sp_offset = 8, .sp_reg = kSpInd, .type = kCall});
  define(1, kEndOfStack);
  put(kIrqEnd - 8, kFirst);
  put(kFirst, in(1));
  const auto trace = walk({.ip = GuestVirtAddr(in(0)), .sp = GuestVirtAddr(kIrqEnd - 8)});
  EXPECT_EQ(trace.frames, (std::vector<Frame>{{GuestVirtAddr(in(0)), false, StackKind::irq},
                                              {GuestVirtAddr(in(1)), false, StackKind::task}}));
  EXPECT_TRUE(trace.reliable());
}

TEST_F(UnwindTest, FindsARealignedFrameThroughTheFramePointer) {
  define(0, {.sp_offset = -8, .sp_reg = kBpInd, .type = kCall});
  define(1, kEndOfStack);
  auto start = sleeper();
  start.bp = kFirst + 0x20;
  put(kFirst + 0x18, kFirst + 0x40);
  put(kFirst + 0x38, in(1));
  EXPECT_EQ(addresses(walk(start)), (Addresses{in(0), in(1)}));
}

TEST_F(UnwindTest, UsesTheRegistersOfARunningVcpu) {
  define(1, kEndOfStack);
  put(kFirst + 0x28, in(1));
  const std::uint64_t caller = kFirst + 0x30;
  const std::pair<RawRegister, std::uint64_t UnwindStart::*> cases[] = {{kR10, &UnwindStart::r10},
                                                                        {kR13, &UnwindStart::r13},
                                                                        {kDi, &UnwindStart::di},
                                                                        {kDx, &UnwindStart::dx}};
  unsigned number = 2;
  for (const auto& [raw, member] : cases) {
    define(number, {.sp_reg = raw, .type = kCall});
    UnwindStart start{
        .ip = GuestVirtAddr(function(number)), .sp = GuestVirtAddr(kFirst), .exact = true};
    start.*member = caller;
    const auto trace = walk(start);
    EXPECT_EQ(addresses(trace), (Addresses{function(number), in(1)})) << raw;
    EXPECT_TRUE(trace.reliable()) << raw;
    ++number;
  }
}

TEST_F(UnwindTest, KnowsNoSuchRegistersOfASleeper) {
  define(0, {.sp_reg = kR10, .type = kCall});
  auto start = sleeper();
  start.r10 = kFirst + 0x30;
  EXPECT_EQ(walk(start).unreliable, Unreliable::undefined);
}

TEST_F(UnwindTest, TakesRegistersFromTheStackAcrossAPartialFrame) {
  define(0, kRegsHere);
  define(1, kIretHere);
  define(2, {.sp_reg = kR10, .type = kCall});
  define(3, kEndOfStack);
  push_regs({.ip = in(1), .sp = top + 168, .r10 = kTaskEnd - 0x100});
  put(top, in(2));
  put(top + 8, kKernelCs);
  put(top + 24, top + 0x100);
  put(top + 32, 0x18);
  put(kTaskEnd - 0x108, in(3));
  EXPECT_EQ(addresses(walk()), (Addresses{in(0), in(1), in(2), in(3)}));
}

TEST_F(UnwindTest, TakesTheFramePointerFromSavedRegisters) {
  define(0, kRegsHere);
  define(1, {.sp_offset = 0x10, .sp_reg = kBp, .type = kCall});
  define(2, kEndOfStack);
  push_regs({.ip = in(1), .sp = top + 168, .bp = top + 0x200});
  put(kFirst + 0x208, in(2));
  EXPECT_EQ(addresses(walk()), (Addresses{in(0), in(1), in(2)}));
}

TEST_F(UnwindTest, ForgetsRegistersAfterACall) {
  define(0, kRegsHere);
  define(1, call_frame(0x10));
  define(2, {.sp_reg = kR10, .type = kCall});
  push_regs({.ip = in(1), .sp = top + 168, .r10 = kTaskEnd - 0x100});
  push(0x10, in(2));
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), (Addresses{in(0), in(1), in(2)}));
  EXPECT_EQ(trace.unreliable, Unreliable::undefined);
}

TEST_F(UnwindTest, TrustsATraceThroughAnInterruptInTheKernelAsOrcKernelsDo) {
  define(0, call_frame(0x10));
  define(1, kRegsHere);
  define(2, call_frame(0x10));
  define(3, kEndOfStack);
  push(0x10, in(1));
  push_regs({.ip = in(2), .sp = top + 168});
  push(0x10, in(3));
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), (Addresses{in(0), in(1), in(2), in(3)}));
  EXPECT_TRUE(trace.reliable());
}

TEST_F(UnwindTest, MarksOnlyTheInterruptedAddressExact) {
  define(0, kRegsHere);
  define(1, call_frame(0x10));
  define(2, kEndOfStack);
  push_regs({.ip = in(1), .sp = top + 168});
  push(0x10, in(2));
  const auto trace = walk();
  ASSERT_EQ(trace.frames.size(), 3);
  EXPECT_FALSE(trace.frames[0].exact);
  EXPECT_TRUE(trace.frames[1].exact);
  EXPECT_FALSE(trace.frames[2].exact);
}

TEST_F(UnwindTest, ReportsAWorseReasonThanAnInterrupt) {
  define(0, kRegsHere);
  define(1, {.type = kNone});
  push_regs({.ip = in(1), .sp = top + 168});
  EXPECT_EQ(walk().unreliable, Unreliable::undefined);
}

TEST_F(UnwindTest, LooksUpTheCallOfAReturnAddress) {
  define(0, call_frame(0x10));
  define(1, kEndOfStack);
  define(2, {.type = kNone});
  push(0x10, function(2));  // the call was the last instruction of function 1
  EXPECT_TRUE(walk().reliable());
}

TEST_F(UnwindTest, StopsAtAReturnTrampoline) {
  define(0, call_frame(0x10));
  define(1, kEndOfStack);
  push(0x10, function(1));
  layout.trampolines = {range(function(1), 1)};
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), (Addresses{in(0), function(1)}));
  EXPECT_EQ(trace.unreliable, Unreliable::trampoline);
}

TEST_F(UnwindTest, StartsASleeperAtItsSavedFrame) {
  for (std::uint64_t word = 0; word < 7; ++word) {
    put(kFirst + word * 8, word);
  }
  const auto start = start_of_sleeper(memory, GuestVirtAddr(kFirst), layout);
  ASSERT_TRUE(start);
  EXPECT_EQ(start->bp, 5);
  EXPECT_EQ(start->ip, GuestVirtAddr(6));
  EXPECT_EQ(start->sp, GuestVirtAddr(kFirst + 56));
  EXPECT_FALSE(start->exact);
}

TEST_F(UnwindTest, TrustsTheStackOfATaskThatHasNotRunYet) {
  define(0, {.type = kNone});
  define(1, kEndOfStack);
  layout.fork_entry = GuestVirtAddr(function(1));
  for (std::uint64_t word = 0; word < 7; ++word) {
    put(kFirst + word * 8, function(1));
  }
  const auto start = start_of_sleeper(memory, GuestVirtAddr(kFirst), layout);
  ASSERT_TRUE(start);
  const auto trace = walk(*start);
  EXPECT_EQ(addresses(trace), Addresses{function(1)});
  EXPECT_TRUE(trace.reliable());
}

}  // namespace
}  // namespace vpatch::introspect
