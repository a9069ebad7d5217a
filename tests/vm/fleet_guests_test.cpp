// SPDX-License-Identifier: Apache-2.0
// That the fleet and the hosts of the tests of rollouts are what those tests take them for.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/fleet_fixture.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class FleetGuestsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* count = std::getenv("VPATCH_FLEET_GUESTS");  // NOLINT(concurrency-mt-unsafe)
    auto members = mixed_fleet(count != nullptr ? std::stoul(count) : 4);
    members.at(2).load = FleetLoad::poller;
    members.at(3).load = FleetLoad::readers;
    const auto begin = std::chrono::steady_clock::now();
    fleet_ = std::make_unique<TestFleet>("vpatch-test-fleet", members);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    fmt::print("fleet: {} guests up after {:.1f} s\n", fleet_->size(), took.count());
  }
  static void TearDownTestSuite() { fleet_.reset(); }

  static const FleetGuest& guest(std::size_t index) { return (*fleet_)[index]; }

  static inline std::unique_ptr<TestFleet> fleet_;
};

TEST_F(FleetGuestsTest, EachAnswersWithItsKernel) {
  for (const auto& one : *fleet_) {
    EXPECT_THAT(one->vm().guest("uname -r"), testing::StartsWith(one->kernel() + "."))
        << one->name();
    EXPECT_EQ(one->vm().trouble(), "") << one->name();
  }
}

TEST_F(FleetGuestsTest, OffAndOnAgain) {
  const std::string former = guest(0).boot_id().value();
  guest(0).power_off();
  EXPECT_EQ(guest(0).state(), "shut off");
  EXPECT_EQ(guest(0).boot_id(), std::nullopt);
  guest(0).start();
  guest(0).wait_until_up(former);
}

TEST_F(FleetGuestsTest, ResetIsAnotherBoot) {
  const std::string former = guest(1).boot_id().value();
  guest(1).reset();
  guest(1).wait_until_up(former);
  EXPECT_NE(guest(1).boot_id().value(), former);
}

TEST_F(FleetGuestsTest, QemuThatIsKilledIsStartedAgain) {
  const std::string former = guest(0).boot_id().value();
  guest(0).kill_vmm();
  EXPECT_TRUE(eventually([] { return guest(0).state() == "shut off"; }));
  guest(0).start();
  guest(0).wait_until_up(former);
}

TEST_F(FleetGuestsTest, PausedByAnybody) {
  guest(1).pause();
  EXPECT_EQ(guest(1).state(), "paused");
  guest(1).resume();
  EXPECT_EQ(guest(1).state(), "running");
  guest(1).wait_until_up();
}

TEST_F(FleetGuestsTest, AgentThatHangsForAWhile) {
  guest(1).hang_agent(std::chrono::seconds(15));
  EXPECT_TRUE(eventually([] {
    return guest(1).vm().vpatch("status", {"--agent", "--agent-timeout", "2"}).exit_code == 6;
  }));
  guest(1).wait_until_up();
}

TEST_F(FleetGuestsTest, BusyOnesArePatchedToo) {
  for (const std::size_t index : {2UL, 3UL}) {
    const ProcessResult result =
        guest(index).vm().vpatch("apply", {"--grace", "0", guest(index).module("vpatch_demo_v1")});
    EXPECT_EQ(result.exit_code, 0) << guest(index).name() << result;
  }
}

TEST_F(FleetGuestsTest, LateWarningComesAfterThePatchIsInForce) {
  const ProcessResult result =
      guest(0).vm().vpatch("apply", {"--grace", "0", guest(0).module("vpatch_cum_late_warn")});
  ASSERT_EQ(result.exit_code, 0) << result;
  EXPECT_TRUE(eventually([] { return !guest(0).vm().trouble().empty(); }));
  EXPECT_THAT(guest(0).vm().guest("dmesg"), HasSubstr("vpatch_cum_late_warn: a warning"));
  EXPECT_EQ(guest(0).vm().vpatch("revert").exit_code, 0);
}

TEST_F(FleetGuestsTest, LateWarningIsCalledOffByTheRevert) {
  const std::string former = guest(1).boot_id().value();
  guest(1).reset();
  guest(1).wait_until_up(former);
  // In the guest, in one go: three seconds are short for a slow host.
  guest(1).vm().deliver(guest(1).module("vpatch_cum_late_warn"), "/run/late.ko");
  guest(1).vm().guest(R"sh(
    cd /sys/kernel/livepatch
    /sbin/insmod /run/late.ko && rm /run/late.ko
    until [ "$(cat vpatch_cum_late_warn/transition)" = 0 ]; do sleep 0.1; done
    echo 0 >vpatch_cum_late_warn/enabled
    until /sbin/rmmod vpatch_cum_late_warn 2>/dev/null; do sleep 0.1; done
    sleep 5)sh");
  EXPECT_EQ(guest(1).vm().trouble(), "");
}

/// Starts the serving vpatch of the host $2 over ssh as configured by $1, asks for its domains,
/// then has $3 $4 $2 done, and waits for the end of ssh.
constexpr const char* kSession = R"sh(
coproc ssh -T -F "$1" -oServerAliveInterval=2 -oServerAliveCountMax=3 "$2" vpatch serve --stdio 2>&1
printf '%s\n' '{"jsonrpc":"2.0","id":1,"method":"hello","params":{"version":1,"vpatch":"test"}}' \
  '{"jsonrpc":"2.0","id":2,"method":"list","params":{"connection":"qemu:///system"}}' >&"${COPROC[1]}"
ssh=$COPROC_PID
while read -r line <&"${COPROC[0]}"; do
  echo "$line"
  if [[ $line == *'"id":2'* ]]; then
    if [[ $# == 4 ]]; then "$3" "$4" "$2"; else eval "exec ${COPROC[1]}>&-"; fi
  fi
done
wait $ssh
)sh";

/// Two hosts with a guest each.
class FleetHostsTest : public testing::Test {
 protected:
  ProcessResult session(std::size_t host, const std::string& fault = {}) const {
    std::vector<std::string> argv = {
        "bash", "-c", kSession, "bash", hosts_.tell(host, "config"), hosts_.name(host)};
    if (!fault.empty()) {
      argv.insert(argv.end(), {VPATCH_SOURCE_DIR "/tests/vm/host", fault});
    }
    return run(argv);
  }

  TestHosts hosts_{"vpt", 2};
  TestFleet fleet_{
      "vpatch-test-hosts",
      {{"6.1", FleetLoad::none, hosts_.name(0)}, {"6.12", FleetLoad::none, hosts_.name(1)}}};
};

TEST_F(FleetHostsTest, EachShowsItsOwnDomainsAndPatchesThem) {
  for (const std::size_t host : {0UL, 1UL}) {
    const ProcessResult answers = session(host);
    EXPECT_EQ(answers.exit_code, 0) << answers;
    EXPECT_THAT(answers.out, HasSubstr(fleet_[host].name())) << answers;
    EXPECT_THAT(answers.out, Not(HasSubstr(fleet_[1 - host].name()))) << answers;
    hosts_.tell(host, "exec",
                {VPATCH_PROGRAM, "apply", "--domain", fleet_[host].name(), "--grace", "0",
                 fleet_[host].module("vpatch_demo_v1")});
    EXPECT_THAT(fleet_[host].vm().guest("cat /proc/cmdline"), HasSubstr("vpatch_demo=1"));
  }
}

TEST_F(FleetHostsTest, FaultsEndTheSession) {
  for (const char* fault : {"hang", "unplug", "drop", "die"}) {
    const ProcessResult ended = session(0, fault);
    EXPECT_EQ(ended.exit_code, 255) << fault << ended;
    if (const std::string what = fault; what == "hang" || what == "unplug") {
      hosts_.tell(0, what == "hang" ? "thaw" : "plug");
    }
  }
  // Back after the power cut, with its disk, and its guests off.
  hosts_.tell(0, "start", {"--vpatch", VPATCH_PROGRAM});
  EXPECT_EQ(fleet_[0].state(), "shut off");
  fleet_[0].start();
  fleet_[0].wait_until_up();
  EXPECT_EQ(session(1).exit_code, 0);
}

}  // namespace
}  // namespace vpatch::test
