// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/guest_state.h"

#include <cstdint>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kState =
    "release\t6.12.9-amd64\n"
    "boot_id\t0f3c\n"
    "tainted\t36864\n"
    "uptime\t512.25 900.10\n"
    "livepatch\t1\n"
    "module\tp1 16384 1 - Live 0x0000000000000000 (OEK)\n"
    "module\text4 1000 2 crc32,jbd2, Live 0x0000000000000000\n"
    "guest.version\t0.1.0\n"
    "patch\tp1\n"
    "enabled\t1\n"
    "transition\t0\n"
    "replace\t1\n"
    "stack_order\t2\n"
    "object\tvmlinux\n"
    "patched\t1\n"
    "function\tcmdline_proc_show,1\n"
    "function\tvfs_read,2\n"
    "object\text4\n"
    "patched\t0\n"
    "patch\tp2\n"
    "enabled\t0\n"
    "transition\t1\n";

std::string repeated(std::string_view text, std::size_t times) {
  std::string result;
  for (std::size_t i = 0; i < times; ++i) {
    result += text;
  }
  return result;
}

std::string random_bytes(std::uint32_t seed, std::size_t size) {
  std::minstd_rand random(seed);
  std::string result;
  for (std::size_t i = 0; i < size; ++i) {
    result += static_cast<char>(random() >> 8U);
  }
  return result;
}

/// `text` with some of its bytes replaced.
std::string damaged(std::string_view text, std::uint32_t seed) {
  std::minstd_rand random(seed);
  std::string result(text);
  for (int i = 0; i < 20; ++i) {
    result[random() % result.size()] = static_cast<char>(random() >> 8U);
  }
  return result;
}

TEST(GuestState, ReadsTheKernelsOwnValues) {
  const GuestState state = parse_guest_state(kState);
  EXPECT_EQ(state.release, "6.12.9-amd64");
  EXPECT_EQ(state.boot_id, "0f3c");
  EXPECT_EQ(state.tainted, 36864U);
  EXPECT_DOUBLE_EQ(state.uptime_seconds, 512.25);
  EXPECT_TRUE(state.has_livepatch);
}

TEST(GuestState, ReadsAModule) {
  const GuestState state = parse_guest_state(kState);
  const GuestModule* module = state.find_module("p1");
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(module->references, 1U);
  EXPECT_EQ(module->flags, "OEK");
  EXPECT_TRUE(module->is_livepatch());
}

TEST(GuestState, ReadsAModuleWithoutTaint) {
  const GuestState state = parse_guest_state(kState);
  const GuestModule* module = state.find_module("ext4");
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(module->references, 2U);
  EXPECT_FALSE(module->is_livepatch());
}

TEST(GuestState, ReadsAPatch) {
  const GuestState state = parse_guest_state(kState);
  const GuestPatch* patch = state.find_patch("p1");
  ASSERT_NE(patch, nullptr);
  EXPECT_EQ(patch->phase(), PatchPhase::patched);
  EXPECT_EQ(patch->replace, true);
  EXPECT_EQ(patch->stack_order, 2U);
}

TEST(GuestState, ReadsTheObjectsOfAPatch) {
  const GuestState state = parse_guest_state(kState);
  const GuestPatch* patch = state.find_patch("p1");
  ASSERT_NE(patch, nullptr);
  ASSERT_THAT(patch->objects, SizeIs(2));
  EXPECT_THAT(patch->objects[0].functions, ElementsAre("cmdline_proc_show,1", "vfs_read,2"));
  EXPECT_EQ(patch->objects[0].patched, true);
  EXPECT_EQ(patch->objects[1].patched, false);
}

TEST(GuestState, LeavesUnsetWhatTheKernelDoesNotShow) {
  const GuestState state =
      parse_guest_state("patch\tp1\nenabled\t1\ntransition\t0\nobject\tvmlinux\n");
  ASSERT_THAT(state.patches, SizeIs(1));
  EXPECT_EQ(state.patches[0].replace, std::nullopt);
  EXPECT_EQ(state.patches[0].stack_order, std::nullopt);
  EXPECT_EQ(state.patches[0].objects[0].patched, std::nullopt);
}

TEST(GuestState, FindsThePatchInTransition) {
  const GuestState state = parse_guest_state(kState);
  ASSERT_NE(state.in_transition(), nullptr);
  EXPECT_EQ(state.in_transition()->name, "p2");
  EXPECT_EQ(state.in_transition()->phase(), PatchPhase::unpatching);
}

TEST(GuestState, ReadsTheFilesOfTheGuestModule) {
  EXPECT_EQ(parse_guest_state(kState).guest_module.at("version"), "0.1.0");
}

TEST(GuestState, PassesOverUnknownKeysAndLinesWithoutATab) {
  const GuestState state = parse_guest_state("what\tever\nno tab\n\n\t\nrelease\t6.1\n");
  EXPECT_EQ(state.release, "6.1");
  EXPECT_THAT(state.patches, IsEmpty());
}

TEST(GuestState, PassesOverFieldsOfNoPatch) {
  EXPECT_THAT(parse_guest_state("enabled\t1\nobject\tvmlinux\nfunction\tf,1\n").patches, IsEmpty());
}

TEST(GuestState, PassesOverFieldsOfNoObject) {
  const GuestState state = parse_guest_state("patch\tp1\npatched\t1\nfunction\tf,1\n");
  ASSERT_THAT(state.patches, SizeIs(1));
  EXPECT_THAT(state.patches[0].objects, IsEmpty());
}

TEST(GuestState, IsEmptyForAnEmptyText) {
  const GuestState state = parse_guest_state("");
  EXPECT_EQ(state.release, "");
  EXPECT_FALSE(state.has_livepatch);
}

TEST(GuestState, ReadsNoNumberAsZero) {
  const GuestState state = parse_guest_state("tainted\t-1\nuptime\tlong\nmodule\tm 1\n");
  EXPECT_EQ(state.tainted, 0U);
  EXPECT_EQ(state.uptime_seconds, 0);
  EXPECT_EQ(state.modules[0].references, 0U);
}

TEST(GuestState, ReadsANumberThatDoesNotFitAsZero) {
  EXPECT_EQ(parse_guest_state("tainted\t99999999999999999999999999\n").tainted, 0U);
}

TEST(GuestState, ReadsAnEndlessUptimeAsZero) {
  EXPECT_EQ(parse_guest_state("uptime\tinf\n").uptime_seconds, 0);
  EXPECT_EQ(parse_guest_state("uptime\tnan\n").uptime_seconds, 0);
}

TEST(GuestState, MakesNamesPrintable) {
  const GuestState state = parse_guest_state("patch\tp\x1b[31m\xff\n");
  ASSERT_THAT(state.patches, SizeIs(1));
  EXPECT_EQ(state.patches[0].name, "p?[31m?");
}

TEST(GuestState, CutsLongValues) {
  EXPECT_THAT(parse_guest_state("release\t" + std::string(100'000, 'a')).release, SizeIs(512));
}

TEST(GuestState, DropsWhatGoesOverTheCaps) {
  const GuestState state =
      parse_guest_state(repeated("module\tm 1 1\n", 5000) + repeated("patch\tp\n", 5000) +
                        repeated("object\to\n", 5000) + repeated("function\tf,1\n", 5000));
  EXPECT_THAT(state.modules, SizeIs(4096));
  ASSERT_THAT(state.patches, SizeIs(4096));
  ASSERT_THAT(state.patches.back().objects, SizeIs(4096));
  EXPECT_THAT(state.patches.back().objects.back().functions, SizeIs(4096));
}

TEST(GuestState, DropsGuestModuleFilesOverTheCap) {
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    text += "guest.f" + std::to_string(i) + "\t1\n";
  }
  EXPECT_THAT(parse_guest_state(text).guest_module, SizeIs(4096));
}

TEST(GuestState, SurvivesRandomBytes) {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    EXPECT_EQ(parse_guest_state(random_bytes(seed, 2000)).release, "");
  }
}

TEST(GuestState, SurvivesDamagedText) {
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    EXPECT_LE(parse_guest_state(damaged(kState, seed)).patches.size(), 2U);
  }
}

constexpr std::string_view kTasks =
    "task\t42\n"
    "comm\tdd\n"
    "state\tD (disk sleep)\n"
    "frame\t[<0>] io_schedule+0x46/0x70\n"
    "frame\t[<0>] ext4_file_read+0x1/0x2 [ext4]\n"
    "task\t43\n"
    "comm\tbusy\n"
    "state\tR (running)\n"
    "count\t20\n";

TEST(PendingTasks, ReadsATaskWithItsStack) {
  const PendingTasks tasks = parse_pending_tasks(kTasks);
  ASSERT_THAT(tasks.first, SizeIs(2));
  EXPECT_EQ(tasks.first[0].tid, 42U);
  EXPECT_EQ(tasks.first[0].name, "dd");
  EXPECT_EQ(tasks.first[0].state, "D (disk sleep)");
  EXPECT_THAT(tasks.first[0].stack,
              ElementsAre("io_schedule+0x46/0x70", "ext4_file_read+0x1/0x2 [ext4]"));
}

TEST(PendingTasks, ReadsARunningTaskWithoutAStack) {
  EXPECT_THAT(parse_pending_tasks(kTasks).first[1].stack, IsEmpty());
}

TEST(PendingTasks, CountsAlsoThoseWithoutDetails) {
  EXPECT_EQ(parse_pending_tasks(kTasks).count, 20U);
}

TEST(PendingTasks, CountsWhatItSeesWhenTheCountIsMissing) {
  EXPECT_EQ(parse_pending_tasks("task\t1\ntask\t2\n").count, 2U);
}

TEST(PendingTasks, PassesOverDetailsOfNoTask) {
  EXPECT_THAT(parse_pending_tasks("comm\tdd\nstate\tR\nframe\tf\ncount\t0\n").first, IsEmpty());
}

TEST(PendingTasks, DropsWhatGoesOverTheCaps) {
  const PendingTasks tasks =
      parse_pending_tasks(repeated("task\t1\n", 5000) + repeated("frame\tf\n", 100));
  ASSERT_THAT(tasks.first, SizeIs(4096));
  EXPECT_THAT(tasks.first.back().stack, SizeIs(64));
}

TEST(PendingTasks, SurvivesDamagedText) {
  for (std::uint32_t seed = 1; seed <= 500; ++seed) {
    EXPECT_LE(parse_pending_tasks(damaged(kTasks, seed)).first.size(), 2U);
  }
}

TEST(TaintLetters, NamesEachBitAsTheKernelDoes) {
  EXPECT_EQ(taint_letters((1U << 19) - 1), "PFSRMBUDAWCIOELKXTN");
}

TEST(TaintLetters, NamesTheTaintOfALivepatch) {
  EXPECT_EQ(taint_letters(kExpectedTaint), "OEK");
}

TEST(TaintLetters, ShowsUnknownBits) {
  EXPECT_EQ(taint_letters(1ULL << 63U), "?");
}

TEST(TaintLetters, AreNoneWithoutTaint) {
  EXPECT_EQ(taint_letters(0), "");
}

TEST(TroubleInLog, FindsEachKind) {
  const std::vector<std::string> lines = {
      "[    1.0] BUG: unable to handle page fault for address: 0",
      "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2",
      "[    1.0] WARNING: at kernel/x.c:1 f+0x1/0x2",
      "[    1.0] Oops: 0002 [#1] PREEMPT SMP",
      "[    1.0] Call Trace:",
      "[    1.0] kernel BUG at mm/slub.c:1!",
      "[    1.0] general protection fault, probably for non-canonical address",
      "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
      "[    1.0] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
      "[    1.0] Kernel panic - not syncing",
  };
  EXPECT_EQ(trouble_in_log(lines), lines);
}

TEST(TroubleInLog, FindsAMarkAtTheLinesStart) {
  EXPECT_THAT(trouble_in_log({"BUG: x"}), SizeIs(1));
}

TEST(TroubleInLog, PassesOverWhatALivepatchPrints) {
  EXPECT_THAT(trouble_in_log({"[    1.0] p1: tainting kernel with TAINT_LIVEPATCH",
                              "[    1.0] livepatch: enabling patch 'p1'",
                              "[    1.0] livepatch: 'p1': patching complete"}),
              IsEmpty());
}

TEST(TroubleInLog, PassesOverDebugLines) {
  EXPECT_THAT(trouble_in_log({"[    1.0] driver: DEBUG: all is well"}), IsEmpty());
}

}  // namespace
}  // namespace vpatch
