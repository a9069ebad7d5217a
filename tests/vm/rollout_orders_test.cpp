// SPDX-License-Identifier: Apache-2.0
// Rollouts on real guests as their operator sees them: the way through, orders on the way, and
// plans that cannot be.
#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/rollout_fixture.h"

namespace vpatch::test {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kPatch = "vpatch_cum_v1";
constexpr const char* kQuick = R"(healthy_for: 1s
apply: {grace: 0, timeout: 60}
)";
constexpr const char* kOneByOne = R"(limits: {parallel: 1, parallel_per_connection: 1}
)";

std::string quick_plan(const FleetGuests& guests, const std::string& more = {}) {
  return plan_for(guests, kPatch) + kQuick + more;
}

std::size_t count_of(const Rollout& rollout, const std::string& state) {
  const auto domains = rollout.domains();
  return static_cast<std::size_t>(
      std::ranges::count_if(domains, [&](const auto& each) { return each.second.state == state; }));
}

TEST_F(RolloutTest, DryRunShowsAllAndChangesNothing) {
  std::vector<std::string> before;
  for (const FleetGuest* each : guests(4)) {
    before.push_back(each->vm().fingerprint());
  }
  const Rollout dry = rollout("dry", plan_for(guests(4), kPatch, {"6.1"}) + kQuick);
  const ProcessResult shown = dry.tell("start", {"--dry-run"});
  ASSERT_EQ(shown.exit_code, 0) << shown;
  const json::object preview = json::parse(shown.out).as_object();
  const json::array& domains = preview.at("domains").as_array();
  ASSERT_EQ(domains.size(), 4U) << shown;
  for (const json::value& domain : domains) {
    if (domain.at("state") == "unmatched") {
      EXPECT_THAT(std::string(domain.at("release").as_string()), testing::StartsWith("6.12"));
      EXPECT_NE(domain.at("text").as_string(), "");
    } else {
      EXPECT_TRUE(domain.at("preflight").at("blockers").is_object()) << domain;
      EXPECT_TRUE(domain.at("preflight").at("findings").is_array()) << domain;
    }
  }
  EXPECT_EQ(dry.tell("status").exit_code, 3) << "there is no such rollout";
  for (std::size_t index = 0; index < 4; ++index) {
    EXPECT_EQ(guest(index).vm().fingerprint(), before[index]);
  }
}

TEST_F(RolloutTest, CanaryThenThreeWavesThenTheOneThatWasOff) {
  // The journal knows the kernel of the guest that will be off.
  const FleetGuest& off = guest(4);
  ASSERT_EQ(off.vm().vpatch("apply", {off.module(kPatch), "--grace", "0"}).exit_code, 0);
  ASSERT_EQ(off.vm().vpatch("revert", {kPatch, "--grace", "0"}).exit_code, 0);
  const std::string former = off.boot_id().value();
  off.power_off();
  Rollout whole =
      rollout("whole", quick_plan(guests(5), fmt::format(R"(canary: {{names: [{}], soak: 1s}}
waves: [{{amount: 1, soak: 1s}}, {{amount: 1}}, {{amount: 100%}}]
)",
                                                         guest(1).name())));
  const ProcessResult result = whole.drive_to_end();
  ASSERT_EQ(result.exit_code, 0) << result;

  expect_explained(whole, guests(5), kPatch);
  const auto domains = whole.domains();
  EXPECT_EQ(count_of(whole, "done"), 4U) << result;
  EXPECT_EQ(domains.at(off.name()).state, "off");
  EXPECT_EQ(domains.at(guest(1).name()).wave, 0U);
  std::vector<std::uint64_t> waves;
  std::string at_work;
  for (const RolloutNews& each : whole.news()) {
    if (each.kind == "applying") {
      EXPECT_EQ(at_work, "") << each.domain << " began before " << at_work << " was done";
      at_work = each.domain;
      waves.push_back(domains.at(each.domain).wave);
    } else if (each.kind == "done") {
      at_work.clear();
    }
  }
  EXPECT_THAT(waves, testing::ElementsAre(0, 1, 2, 3));
  for (const FleetGuest* each : guests(4)) {
    EXPECT_EQ(loads_of(*each, kPatch), 1U) << each->name();
    EXPECT_EQ(applies_of(*each, kPatch).done, 1U) << each->name();
  }

  EXPECT_THAT(registered_for(off), testing::ElementsAre(kPatch));
  off.start();
  off.wait_until_up(former);
  const ProcessResult ensured = off.vm().vpatch("ensure", {"--settle", "0"});
  EXPECT_EQ(ensured.exit_code, 0) << ensured;
  EXPECT_TRUE(has_in_force(off, kPatch));

  // Once more, for one kernel alone: what is in force is left as it is.
  Rollout again = rollout("again", plan_for(guests(4), kPatch, {"6.1"}) + kQuick);
  const ProcessResult repeated = again.drive_to_end();
  EXPECT_EQ(repeated.exit_code, 0) << repeated;
  EXPECT_EQ(count_of(again, "already"), 2U) << repeated;
  EXPECT_EQ(count_of(again, "unmatched"), 2U) << repeated;
  EXPECT_EQ(loads_of(guest(0), kPatch), 1U);

  // The way back is that of all five.
  const ProcessResult back = whole.drive_to_end("rollback");
  EXPECT_EQ(back.exit_code, 4) << back;
  expect_explained(whole, guests(5), kPatch);
  for (const FleetGuest* each : guests(5)) {
    EXPECT_FALSE(has_in_force(*each, kPatch)) << each->name();
    EXPECT_THAT(registered_for(*each), IsEmpty()) << each->name();
  }
}

TEST_F(RolloutTest, OrdersOfAnotherProcess) {
  Rollout first = rollout("first", quick_plan(guests(4), kOneByOne));
  first.drive();
  ASSERT_TRUE(first.comes("applying"));
  const ProcessResult paused = first.tell("pause", {"--why", "lunch"});
  EXPECT_EQ(paused.exit_code, 0) << paused;
  EXPECT_EQ(json::parse(paused.out).at("paused"), true) << paused;
  const ProcessResult rests = first.end();
  EXPECT_EQ(rests.exit_code, 5) << rests;
  EXPECT_EQ(count_of(first, "done"), 1U) << "what was at work has ended";
  EXPECT_EQ(count_of(first, "waiting"), 3U) << "nothing more was begun";

  const ProcessResult taken = first.tell("start");
  EXPECT_EQ(taken.exit_code, 3) << taken;
  EXPECT_THAT(taken.out, HasSubstr("rollout resume"));
  const ProcessResult second = rollout("second", quick_plan(guests(1))).tell("start");
  EXPECT_EQ(second.exit_code, 3) << second;
  EXPECT_THAT(second.out, HasSubstr("first"));
  Rollout queued = rollout("queued", quick_plan(guests(2), "on_overlap: queue\n"));
  queued.drive();

  first.drive("resume");
  ASSERT_TRUE(first.comes("applying"));
  const ProcessResult resumed = first.tell("resume");
  EXPECT_EQ(resumed.exit_code, 0) << "it goes on anyway" << resumed;
  const ProcessResult aborted = first.tell("abort");
  EXPECT_EQ(aborted.exit_code, 0) << aborted;
  const ProcessResult end = first.end();
  EXPECT_EQ(end.exit_code, 5) << end;
  EXPECT_EQ(count_of(first, "done"), 2U) << end;
  EXPECT_EQ(count_of(first, "left-alone"), 2U) << end;
  EXPECT_EQ(first.tell("resume").exit_code, 3);

  const ProcessResult at_last = queued.end();
  EXPECT_EQ(at_last.exit_code, 0) << at_last;
  EXPECT_EQ(count_of(queued, "done") + count_of(queued, "already"), 2U) << at_last;
  expect_explained(queued, guests(2), kPatch);
  for (const FleetGuest* each : guests(2)) {
    EXPECT_EQ(loads_of(*each, kPatch), 1U) << each->name();
  }
}

TEST_F(RolloutTest, CtrlCOncePausesTwiceInterrupts) {
  Rollout both = rollout("both", quick_plan(guests(2), kOneByOne));
  both.drive();
  ASSERT_TRUE(both.comes("applying"));
  both.signal(SIGINT);
  const ProcessResult once = both.end();
  EXPECT_EQ(once.exit_code, 5) << once;
  EXPECT_EQ(count_of(both, "done"), 1U) << once;
  EXPECT_EQ(count_of(both, "waiting"), 1U) << once;

  both.drive("resume");
  ASSERT_TRUE(both.comes("applying"));
  both.signal(SIGINT);
  ASSERT_TRUE(both.comes("paused"));
  both.signal(SIGINT);
  const ProcessResult twice = both.end();
  EXPECT_EQ(twice.exit_code, 5) << twice;
  for (const FleetGuest* each : guests(2)) {
    EXPECT_THAT(each->vm().guest("cat /sys/kernel/livepatch/*/transition 2>/dev/null || :"),
                testing::Not(HasSubstr("1")));
  }
  const ProcessResult resumed = both.drive_to_end("resume");
  EXPECT_EQ(resumed.exit_code, 0) << resumed;
  expect_explained(both, guests(2), kPatch);
  EXPECT_EQ(count_of(both, "done"), 2U) << resumed;
  for (const FleetGuest* each : guests(2)) {
    EXPECT_LE(applies_of(*each, kPatch).done, 1U) << each->name();
  }
}

TEST_F(RolloutTest, PlansThatCannotBe) {
  EXPECT_EQ(rollout("wrong", quick_plan(guests(1), "wave: []\n")).tell("start").exit_code, 2);
  EXPECT_EQ(rollout("canary", quick_plan(guests(1), "canary: {names: [nobody]}\n"))
                .tell("start")
                .exit_code,
            3);
  EXPECT_EQ(run({VPATCH_PROGRAM, "rollout", "start", folder_ / "none.yaml"}).exit_code, 2);
  const ProcessResult far = rollout("far", quick_plan(guests(1)))
                                .tell("start", {"-c", "qemu+ssh://root@127.0.0.1:1/system"});
  EXPECT_EQ(far.exit_code, 6) << far;
  const ProcessResult list = run({VPATCH_PROGRAM, "rollout", "list", "--json"});
  EXPECT_TRUE(json::parse(list.out).at("rollouts").as_array().empty()) << list;
}

}  // namespace
}  // namespace vpatch::test
