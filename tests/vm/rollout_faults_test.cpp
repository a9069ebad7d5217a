// SPDX-License-Identifier: Apache-2.0
// What happens to guests and to libvirt in the middle of a rollout, and a livepatch that does harm.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/rollout_fixture.h"

namespace vpatch::test {
namespace {

using std::chrono::seconds;
using testing::AnyOf;
using testing::HasSubstr;

constexpr const char* kPatch = "vpatch_cum_v1";
/// All at one time, and failures do not stop it.
constexpr const char* kAllAtOnce =
    R"(limits: {parallel: 4, parallel_per_connection: 4, budget: 4, per_domain: 60s}
apply: {grace: 0, timeout: 30}
)";

/// Guests and their agents go on; who speaks with libvirt right then has to do so again.
void restart_libvirtd() {
  if (!std::filesystem::exists("/run/vpatch-vm/libvirtd")) {
    const ProcessResult restarted = run({"systemctl", "restart", "libvirtd"});
    ASSERT_EQ(restarted.exit_code, 0) << restarted;
    return;
  }
  const pid_t pid = std::stoi(read_file("/run/libvirtd.pid"));
  kill(pid, SIGTERM);
  ASSERT_TRUE(eventually([pid] { return kill(pid, 0) != 0; }));
  const ProcessResult started = run({VPATCH_SOURCE_DIR "/images/vm", "libvirtd-start"});
  ASSERT_EQ(started.exit_code, 0) << started;
}

/// Has it go on until it has finished, as an operator would.
ProcessResult resume_to_the_end(Rollout& rollout) {
  ProcessResult last;
  for (int times = 0; times < 3 && !rollout.status().at("finished").as_bool(); ++times) {
    last = rollout.drive_to_end("resume");
  }
  EXPECT_TRUE(rollout.status().at("finished").as_bool()) << last;
  return last;
}

TEST_F(RolloutTest, FaultsWhileWatching) {
  Rollout faults =
      rollout("watching", plan_for(guests(4), kPatch) + kAllAtOnce + "healthy_for: 15s\n");
  faults.drive();
  for (const FleetGuest* each : guests(4)) {
    ASSERT_TRUE(faults.comes("watching", each->name())) << faults.end();
  }
  const FleetGuest &off = guest(0), &rebooted = guest(1), &paused = guest(2), &deaf = guest(3);
  const std::string boot_of_off = off.boot_id().value();
  const std::string boot_of_rebooted = rebooted.boot_id().value();
  deaf.hang_agent(seconds(60));
  off.power_off();
  rebooted.reset();
  paused.pause();
  const ProcessResult stopped = faults.end();
  EXPECT_EQ(stopped.exit_code, 5) << stopped;
  EXPECT_EQ(faults.status().at("cause").as_string(), "inconclusive") << stopped;
  EXPECT_EQ(faults.domains().at(off.name()).state, "failed") << stopped;
  EXPECT_EQ(faults.domains().at(paused.name()).state, "inconclusive") << stopped;
  EXPECT_EQ(faults.domains().at(deaf.name()).state, "inconclusive") << stopped;

  paused.resume();
  off.start();
  rebooted.wait_until_up(boot_of_rebooted);
  off.wait_until_up(boot_of_off);
  deaf.wait_until_up();
  const ProcessResult ended = resume_to_the_end(faults);
  EXPECT_EQ(ended.exit_code, 8) << ended;
  expect_explained(faults, guests(4), kPatch);
  const auto domains = faults.domains();
  EXPECT_EQ(domains.at(off.name()).state, "failed");
  EXPECT_EQ(domains.at(rebooted.name()).state, "failed");
  EXPECT_EQ(domains.at(paused.name()).state, "done");
  EXPECT_EQ(domains.at(deaf.name()).state, "done");
  for (const FleetGuest* each : guests(4)) {
    EXPECT_EQ(applies_of(*each, kPatch).done, 1U) << each->name();
  }
}

TEST_F(RolloutTest, FaultsWhileApplying) {
  Rollout faults =
      rollout("applying", plan_for(guests(4), kPatch) + kAllAtOnce + "healthy_for: 1s\n");
  const FleetGuest &off = guest(2), &rebooted = guest(3), &paused = guest(0), &deaf = guest(1);
  const std::string boot_of_off = off.boot_id().value();
  const std::string boot_of_rebooted = rebooted.boot_id().value();
  deaf.hang_agent(seconds(12));
  faults.drive();
  for (const FleetGuest* each : guests(4)) {
    ASSERT_TRUE(faults.comes("applying", each->name())) << faults.end();
  }
  paused.pause();
  off.power_off();
  rebooted.reset();
  std::this_thread::sleep_for(seconds(5));
  paused.resume();
  off.start();
  off.wait_until_up(boot_of_off);
  rebooted.wait_until_up(boot_of_rebooted);
  const ProcessResult ended = faults.end();
  if (!faults.status().at("finished").as_bool()) {
    resume_to_the_end(faults);
  }
  expect_explained(faults, guests(4), kPatch);
  const auto domains = faults.domains();
  EXPECT_THAT(domains.at(off.name()).state, AnyOf("off", "done", "failed")) << ended;
  EXPECT_THAT(domains.at(rebooted.name()).state, AnyOf("done", "failed")) << ended;
  EXPECT_EQ(domains.at(paused.name()).state, "done") << ended;
  EXPECT_EQ(domains.at(deaf.name()).state, "done") << ended;
  for (const FleetGuest* each : {&paused, &deaf}) {
    EXPECT_EQ(applies_of(*each, kPatch).done, 1U) << each->name();
    EXPECT_LE(loads_of(*each, kPatch), 1U) << each->name();
  }
}

TEST_F(RolloutTest, LibvirtdRestarts) {
  Rollout through = rollout("through", plan_for(guests(4), kPatch) + R"(healthy_for: 3s
limits: {parallel: 2, parallel_per_connection: 2, budget: 4, per_domain: 60s}
apply: {grace: 0, timeout: 30}
)");
  through.drive();
  ASSERT_TRUE(through.comes("watching")) << through.end();  // and another is applied
  restart_libvirtd();
  const ProcessResult ended = through.end();
  if (!through.status().at("finished").as_bool()) {
    resume_to_the_end(through);
  }
  expect_explained(through, guests(4), kPatch);
  // An apply whose connection broke could not see its end: the rollout has looked again.
  for (const auto& [name, domain] : through.domains()) {
    EXPECT_EQ(domain.state, "done") << name << ": " << domain.text << ended;
  }
  for (const FleetGuest* each : guests(4)) {
    EXPECT_LE(applies_of(*each, kPatch).done, 1U) << each->name();
  }
}

TEST_F(RolloutTest, BadLivepatchStopsInTheCanaryWhichGoesBack) {
  constexpr const char* kFormer = "vpatch_cum_stateless";
  constexpr const char* kBad = "vpatch_cum_late_warn";
  Rollout former =
      rollout("former", plan_for(guests(4), kFormer) + kAllAtOnce + "healthy_for: 1s\n");
  const ProcessResult first = former.drive_to_end();
  ASSERT_EQ(first.exit_code, 0) << first;
  std::vector<std::string> before;
  for (const FleetGuest* each : guests(4)) {
    before.push_back(each->vm().fingerprint() + each->vm().guest("dmesg | grep livepatch:"));
  }

  const FleetGuest& canary = guest(1);
  Rollout bad =
      rollout("bad", plan_for(guests(4), kBad) + fmt::format(R"(canary: {{names: [{}], soak: 1s}}
healthy_for: 10s
on_failure: rollback
apply: {{grace: 0, timeout: 60}}
)",
                                                             canary.name()));
  const ProcessResult result = bad.drive_to_end();
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_EQ(bad.status().at("course").as_string(), "back");
  EXPECT_EQ(bad.status().at("cause").as_string(), "canary");
  EXPECT_EQ(bad.status().at("cause_domain").as_string(), canary.name());
  expect_explained(bad, guests(4), kBad);
  for (std::size_t index = 0; index < 4; ++index) {
    const FleetGuest& each = guest(index);
    const auto domain = bad.domains().at(each.name());
    EXPECT_TRUE(has_in_force(each, kFormer)) << each.name();
    EXPECT_THAT(registered_for(each), testing::ElementsAre(kFormer)) << each.name();
    if (&each == &canary) {
      EXPECT_EQ(domain.state, "reverted") << domain.text;
      EXPECT_THAT(each.vm().trouble(), HasSubstr("WARNING"));
    } else {
      EXPECT_EQ(domain.state, "left-alone") << domain.text;
      EXPECT_EQ(each.vm().fingerprint() + each.vm().guest("dmesg | grep livepatch:"),
                before[index]);
    }
  }
}

}  // namespace
}  // namespace vpatch::test
