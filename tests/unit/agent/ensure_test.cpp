// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/ensure.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/agent/operation_bench.h"
#include "vmm-agent/operation/settle.h"

namespace vpatch {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const ModuleImage kPatch{.name = "p1", .build_id = "aa11"};

const LastLoad kWell{.end = LastLoad::End::well, .at = "then", .boot_id = "old", .text = "fine"};
const LastLoad kTrouble{
    .end = LastLoad::End::trouble, .at = "then", .boot_id = "old", .text = "the guest crashed"};
const LastLoad kTakenOut{.end = LastLoad::End::well, .boot_id = "now", .in_force = true};
const LastLoad kStalled{.end = LastLoad::End::well, .boot_id = "now"};
const LastLoad kLostInThisBoot{.end = LastLoad::End::unknown, .at = "then", .boot_id = "now"};
const LastLoad kLostInAnotherBoot{.end = LastLoad::End::unknown, .at = "then", .boot_id = "old"};

TEST(Ensure, DecidesByForceKernelAndLastLoad) {
  struct Row {
    const char* what;
    bool in_force;
    const char* guest_release;
    std::optional<LastLoad> last;
    bool retry_failed;
    EnsureAction action;
  };
  const std::vector<Row> rows = {
      {"never loaded", false, "6.1", std::nullopt, false, EnsureAction::apply},
      {"loaded well", false, "6.1", kWell, false, EnsureAction::apply},
      {"taken out since", false, "6.1", kTakenOut, false, EnsureAction::taken_out},
      {"taken out since, once more", false, "6.1", kTakenOut, true, EnsureAction::apply},
      {"stalled in this boot", false, "6.1", kStalled, false, EnsureAction::apply},
      {"crashed", false, "6.1", kTrouble, false, EnsureAction::hold_back},
      {"crashed, once more", false, "6.1", kTrouble, true, EnsureAction::apply},
      {"no end, same boot", false, "6.1", kLostInThisBoot, false, EnsureAction::apply},
      {"no end, rebooted", false, "6.1", kLostInAnotherBoot, false, EnsureAction::hold_back},
      {"no end, rebooted, once more", false, "6.1", kLostInAnotherBoot, true, EnsureAction::apply},
      {"in force", true, "6.1", kWell, false, EnsureAction::nothing},
      {"in force in spite of trouble", true, "6.1", kTrouble, false, EnsureAction::nothing},
      {"other kernel", false, "6.12", kWell, false, EnsureAction::other_kernel},
      {"other kernel, crashed, once more", false, "6.12", kTrouble, true,
       EnsureAction::other_kernel},
  };
  for (const Row& row : rows) {
    const EnsureDecision decision = decide_ensure({.patch = "fix",
                                                   .patch_release = "6.1",
                                                   .guest_release = row.guest_release,
                                                   .boot_id = "now",
                                                   .in_force = row.in_force,
                                                   .last = row.last,
                                                   .retry_failed = row.retry_failed});
    EXPECT_EQ(decision.action, row.action) << row.what;
  }
}

TEST(Ensure, SaysWhyItHoldsBack) {
  EnsureFacts facts{.patch = "fix",
                    .patch_release = "6.1",
                    .guest_release = "6.1",
                    .boot_id = "now",
                    .last = kTrouble};
  EXPECT_THAT(decide_ensure(facts).text, AllOf(HasSubstr("then"), HasSubstr("the guest crashed")));
  EXPECT_THAT(decide_ensure(facts).hint, HasSubstr("--retry-failed"));
  facts.guest_release = "6.12";
  EXPECT_THAT(decide_ensure(facts).text,
              AllOf(HasSubstr("now runs 6.12"), HasSubstr("built for 6.1")));
}

struct EnsureBench : OperationBench {
  EnsureBench() { guest.images[kPatch.name] = kPatch; }

  Report run(const std::optional<LastLoad>& last = std::nullopt, EnsureOptions options = {}) {
    return ensure(context, file_of(kPatch), last, options);
  }
};

TEST(Ensure, AppliesWhatIsMissing) {
  EnsureBench bench;
  const Report report = bench.run();
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_TRUE(report.loaded);
  ASSERT_NE(bench.kernel.find("p1"), nullptr);
}

TEST(Ensure, LeavesWhatIsInForceAlone) {
  EnsureBench bench;
  bench.kernel.put(kPatch);
  const Report report = bench.run(kTrouble);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_FALSE(called(bench.guest, "load p1"));
}

TEST(Ensure, OtherBuildOfTheSameNameIsNotInForce) {
  EnsureBench bench;
  bench.kernel.put({.name = "p1", .build_id = "bb22"});
  EXPECT_EQ(bench.run().outcome, Outcome::refused) << "as apply says";
}

TEST(Ensure, HoldsBackWhatDidHarm) {
  EnsureBench bench;
  const Report report = bench.run(kTrouble);
  EXPECT_EQ(report.outcome, Outcome::refused);
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings.front().id, "held-back");
  EXPECT_THAT(bench.kernel.patches, IsEmpty());
  EnsureOptions once_more;
  once_more.retry_failed = true;
  EXPECT_EQ(bench.run(kTrouble, once_more).outcome, Outcome::done);
}

TEST(Ensure, RefusesForAnotherKernel) {
  EnsureBench bench;
  bench.kernel.release = "6.12.0-test";
  const Report report = bench.run();
  EXPECT_EQ(report.outcome, Outcome::refused);
  EXPECT_EQ(report.findings.front().id, "kernel-changed");
}

TEST(Ensure, SilentGuestIsUnreachable) {
  EnsureBench bench;
  bench.guest.fail({.op = Op::observe, .count = When::kForEver});
  EXPECT_EQ(bench.run().outcome, Outcome::unreachable);
}

TEST(Ensure, LoadIsRecordedBeforeItIsDone) {
  EnsureBench bench;
  std::vector<std::string> recorded;
  bench.guest.before({.op = Op::load}, [&] { recorded = bench.reporter.records; });
  bench.run();
  EXPECT_THAT(recorded, ElementsAre("load"));
}

TEST(Ensure, LoadsNothingThatCannotBeRecorded) {
  EnsureBench bench;
  bench.reporter.records_fail = true;
  const Report report = bench.run();
  EXPECT_EQ(report.outcome, Outcome::refused) << report.summary;
  EXPECT_THAT(report.summary, HasSubstr("cannot be recorded"));
  EXPECT_FALSE(called(bench.guest, "load p1"));
  EXPECT_EQ(apply(bench.context, file_of(kPatch), {}).outcome, Outcome::done) << "by hand";
}

TEST(Ensure, LeavesOutOfForceWhatWasTakenOut) {
  EnsureBench bench;
  LastLoad last = kTakenOut;
  last.boot_id = bench.kernel.boot_id;
  const Report report = bench.run(last);
  EXPECT_EQ(report.outcome, Outcome::done);
  EXPECT_THAT(report.findings, IsEmpty());
  EXPECT_FALSE(called(bench.guest, "load p1"));
  bench.kernel.reboot();
  bench.kernel.boot_id = "another";
  EXPECT_EQ(bench.run(last).outcome, Outcome::done);
  EXPECT_TRUE(called(bench.guest, "load p1"));
}

TEST(Ensure, CrashInTheLoadIsRecorded) {
  EnsureBench bench;
  bench.guest.before({.op = Op::load}, [&bench] {
    bench.kernel.reboot();
    bench.guest.refuse({.op = Op::load}, "insmod: the agent was restarted");
  });
  const Report report = bench.run();
  EXPECT_EQ(report.outcome, Outcome::failed_restored);
  EXPECT_THAT(report.summary, HasSubstr("rebooted"));
  EXPECT_THAT(bench.reporter.records, ElementsAre("load", "rebooted"));
}

TEST(Settle, GuestThatIsWellEndsAsDone) {
  EnsureBench bench;
  const auto start = bench.clock.now();
  const Report report = apply_and_watch(bench.context, file_of(kPatch), {}, 10s);
  EXPECT_EQ(report.outcome, Outcome::done) << report.summary;
  EXPECT_GE(bench.clock.now() - start, 10s);
}

TEST(Settle, WarningInTheLogNeedsALook) {
  EnsureBench bench;
  bench.clock.schedule(5s, [&bench] { bench.kernel.print("WARNING: CPU: 0 PID: 1 at fix.c:1"); });
  const Report report = apply_and_watch(bench.context, file_of(kPatch), {}, 10s);
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("WARNING: CPU: 0"));
  EXPECT_THAT(report.kernel_log, Contains(HasSubstr("fix.c:1")));
}

TEST(Settle, WarningAfterItIsNotSeen) {
  EnsureBench bench;
  bench.clock.schedule(30s, [&bench] { bench.kernel.print("WARNING: CPU: 0 PID: 1 at fix.c:1"); });
  EXPECT_EQ(apply_and_watch(bench.context, file_of(kPatch), {}, 10s).outcome, Outcome::done);
}

TEST(Settle, CrashNeedsALook) {
  EnsureBench bench;
  bench.clock.schedule(5s, [&bench] { bench.kernel.reboot(); });
  const Report report = apply_and_watch(bench.context, file_of(kPatch), {}, 10s);
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("rebooted"));
}

TEST(Settle, SilentGuestNeedsALook) {
  EnsureBench bench;
  bench.clock.schedule(
      5s, [&bench] { bench.guest.fail({.op = Op::observe, .count = When::kForEver}); });
  const Report report = apply_and_watch(bench.context, file_of(kPatch), {}, 10s);
  EXPECT_EQ(report.outcome, Outcome::failed_needs_look);
  EXPECT_THAT(report.summary, HasSubstr("fell silent"));
}

TEST(Settle, CtrlCEndsTheWatchAndNotThePatch) {
  EnsureBench bench;
  bench.clock.schedule(5s, [&bench] { bench.press_ctrl_c(); });
  const auto start = bench.clock.now();
  EXPECT_EQ(apply_and_watch(bench.context, file_of(kPatch), {}, 10s).outcome, Outcome::done);
  EXPECT_LT(bench.clock.now() - start, 10s);
  EXPECT_NE(bench.kernel.find("p1"), nullptr);
}

TEST(Settle, WhatWasInForceAlreadyIsNotWatched) {
  EnsureBench bench;
  bench.kernel.put(kPatch);
  const auto start = bench.clock.now();
  EXPECT_EQ(apply_and_watch(bench.context, file_of(kPatch), {}, 10s).outcome, Outcome::done);
  EXPECT_LT(bench.clock.now() - start, 10s);
}

}  // namespace
}  // namespace vpatch
