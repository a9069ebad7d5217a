// SPDX-License-Identifier: Apache-2.0
#include <random>

#include <gtest/gtest.h>

#include "fake_stack.h"

namespace vpatch::introspect {
namespace {

using namespace testing;

constexpr RawOrc kEndOfStack{.type = kEnd};

TEST_F(UnwindTest, DoesNotTrustTextWithoutAnEntry) {
  table.add(in(1) + 0x100, kEndOfStack);  // and nothing before it
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), Addresses{in(0)});
  EXPECT_EQ(trace.unreliable, Unreliable::no_orc);
}

TEST_F(UnwindTest, DoesNotListAnAddressOutsideOfKernelText) {
  define(0, call_frame(0x10));
  for (const std::uint64_t address :
       {std::uint64_t{0}, std::uint64_t{0x401000}, kText + kTextSize + 1, ~std::uint64_t{0}}) {
    top = kFirst;
    push(0x10, address);
    const auto trace = walk();
    EXPECT_EQ(addresses(trace), Addresses{in(0)}) << address;
    EXPECT_EQ(trace.unreliable, Unreliable::bad_address) << address;
  }
}

TEST_F(UnwindTest, DoesNotTrustAnUndefinedEntry) {
  define(0, {.type = kNone});
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), Addresses{in(0)});
  EXPECT_EQ(trace.unreliable, Unreliable::undefined);
}

/// A vCPU that is stopped at the first instruction of a retpoline: until Linux 6.3 its entry cannot
/// be told from the end of a stack by itself.
TEST_F(UnwindTest, DoesNotTakeARetpolineForTheEnd) {
  constexpr RawOrc kEmpty{.end = true};
  table.as_6_1 = true;
  define(0, kEmpty);
  define(1, {.sp_offset = 0x10, .sp_reg = kSp, .type = kOldCall});
  auto start = sleeper();
  start.exact = true;
  for (const std::uint64_t sp : {kFirst, kTaskEnd - 168 - 8}) {
    start.sp = GuestVirtAddr(sp);
    const auto trace = walk(start);
    EXPECT_EQ(addresses(trace), Addresses{in(0)}) << sp;
    EXPECT_EQ(trace.unreliable, Unreliable::undefined) << sp;
  }
  for (const std::uint64_t sp : {kTaskEnd - 168, kTaskEnd - 8}) {
    start.sp = GuestVirtAddr(sp);
    EXPECT_TRUE(walk(start).reliable()) << sp;
  }
  start.sp = GuestVirtAddr(kIrqEnd - 8);
  EXPECT_EQ(walk(start).unreliable, Unreliable::undefined) << "on another stack";

  start.ip = GuestVirtAddr(in(1));
  start.sp = GuestVirtAddr(kTaskEnd - 168 - 0x10);
  put(kTaskEnd - 168 - 8, in(0));
  EXPECT_TRUE(walk(start).reliable()) << "a kernel thread's last frame";
}

TEST_F(UnwindTest, DoesNotTrustAStackPointerOutsideOfEveryStack) {
  define(0, kEndOfStack);
  const auto trace = walk({.ip = GuestVirtAddr(in(0)), .sp = GuestVirtAddr(kTaskEnd)});
  EXPECT_EQ(addresses(trace), Addresses{in(0)});
  EXPECT_EQ(trace.unreliable, Unreliable::bad_stack);
}

TEST_F(UnwindTest, ReadsNoWordThatReachesPastItsStack) {
  define(0, {.sp_offset = 8, .sp_reg = kBp, .type = kCall});
  auto start = sleeper();
  start.bp = kTaskEnd - 7;
  put(kTaskEnd - 7, in(0));
  EXPECT_EQ(walk(start).unreliable, Unreliable::bad_stack);
}

TEST_F(UnwindTest, DoesNotTrustAFrameThatDoesNotRise) {
  define(0, {.sp_offset = 0, .sp_reg = kSp, .type = kCall});
  put(kFirst - 8, in(0));
  const auto trace = walk();
  EXPECT_EQ(trace.unreliable, Unreliable::bad_stack);
  EXPECT_EQ(trace.frames.size(), 1);
}

TEST_F(UnwindTest, EndsALoopAtTheVeryEndOfAStack) {
  define(0, {.sp_offset = 0, .sp_reg = kBp, .type = kCall});
  auto start = sleeper();
  start.bp = kTaskEnd;
  put(kTaskEnd - 8, in(0));
  const auto trace = walk(start);
  EXPECT_EQ(trace.unreliable, Unreliable::bad_stack);
  EXPECT_LE(trace.frames.size(), 2);
}

TEST_F(UnwindTest, DoesNotEnterAStackTwice) {
  define(0, {.sp_offset = 8, .sp_reg = kSpInd, .type = kCall});
  put(kFirst, kIrqEnd - 16);
  put(kIrqEnd - 16, in(0));  // and from there back to the task's stack, where all began
  put(kIrqEnd - 8, kFirst + 8);
  put(kFirst + 8, in(0));
  const auto trace = walk();
  EXPECT_EQ(trace.unreliable, Unreliable::bad_stack);
  EXPECT_EQ(trace.frames.size(), 2);
}

TEST_F(UnwindTest, LooksAtNoMoreThanTheFirstStacks) {
  define(0, kEndOfStack);
  stacks.assign(kMaxStacks, {StackKind::entry, range(0x1000, 8)});
  stacks.push_back({StackKind::task, range(kTaskStack, 0x4000)});
  EXPECT_EQ(walk().unreliable, Unreliable::bad_stack);
}

TEST_F(UnwindTest, DoesNotTrustAStackThatCannotBeRead) {
  define(0, call_frame(0x10));
  push(0x10, in(0));
  memory.fail_at(GuestVirtAddr(kFirst));
  const auto trace = walk();
  EXPECT_EQ(addresses(trace), Addresses{in(0)});
  EXPECT_EQ(trace.unreliable, Unreliable::unreadable);
}

TEST_F(UnwindTest, TrustsAsManyFramesAsTheKernelDoes) {
  define(0, call_frame(8));
  define(1, kEndOfStack);
  for (std::size_t frame = 2; frame < kMaxFrames; ++frame) {
    push(8, in(0));
  }
  push(8, in(1));
  const auto trace = walk();
  EXPECT_EQ(trace.frames.size(), kMaxFrames);
  EXPECT_TRUE(trace.reliable());
}

TEST_F(UnwindTest, DoesNotTrustOneFrameMore) {
  define(0, call_frame(8));
  define(1, kEndOfStack);
  for (std::size_t frame = 1; frame < kMaxFrames; ++frame) {
    push(8, in(0));
  }
  push(8, in(1));
  const auto trace = walk();
  EXPECT_EQ(trace.frames.size(), kMaxFrames);
  EXPECT_EQ(trace.unreliable, Unreliable::too_long);
}

TEST_F(UnwindTest, WalksNothingByALayoutThatMakesNoSense) {
  define(0, kEndOfStack);
  layout.regs_size = 1000;
  EXPECT_EQ(walk().unreliable, Unreliable::unknown_format);
}

TEST_F(UnwindTest, FindsNoStartPastTheEndOfMemory) {
  EXPECT_FALSE(start_of_sleeper(memory, GuestVirtAddr(~std::uint64_t{0} - 8), layout));
}

TEST(UnwindLayout, RefusesRegistersOutsideOfTheirStructure) {
  auto types = types_of_6_12();
  types.members["pt_regs.sp"].bit_offset = std::uint64_t{164} * 8;
  const auto layout = UnwindLayout::probe(types);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, Errc::corrupt);
}

TEST(Unreliable, HasAWordAndASentenceForEachReason) {
  for (int why = 0; why <= static_cast<int>(Unreliable::unknown_format); ++why) {
    EXPECT_NE(to_string(static_cast<Unreliable>(why)), "unknown");
    EXPECT_NE(describe(static_cast<Unreliable>(why)), "unknown");
  }
}

TEST_F(UnwindTest, EndsOnAnyStackByAnyTable) {
  std::mt19937_64 random(20240607);  // the same stacks on every run
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 60; ++round) {
    table = {};
    for (unsigned number = 0; number < 24; ++number) {
      define(number, {.sp_offset = static_cast<std::int16_t>(below(64) * 8 - 64),
                      .bp_offset = static_cast<std::int16_t>(below(16) * 8 - 64),
                      .sp_reg = static_cast<unsigned>(below(10)),
                      .bp_reg = below(2) != 0 ? static_cast<unsigned>(below(10)) : kUndefined,
                      .type = static_cast<unsigned>(2 + below(3)),
                      .signal = below(2) != 0});
    }
    const auto word = [&] {
      switch (below(4)) {
        case 0:
          return kTaskStack + below(0x4008);
        case 1:
          return kIrqStack + below(0x4008);
        default:
          return in(static_cast<unsigned>(below(24)));
      }
    };
    for (std::uint64_t at = 0; at < 0x4000; at += 8) {
      put(kTaskStack + at, word());
      put(kIrqStack + at, word());
    }
    for (int start = 0; start < 20; ++start) {
      const auto trace = walk({.ip = GuestVirtAddr(in(static_cast<unsigned>(below(24)))),
                               .sp = GuestVirtAddr(word()),
                               .bp = word(),
                               .exact = below(2) != 0,
                               .r10 = word(),
                               .r13 = word(),
                               .di = word(),
                               .dx = word()});
      ASSERT_LE(trace.frames.size(), kMaxFrames);
    }
  }
}

}  // namespace
}  // namespace vpatch::introspect
