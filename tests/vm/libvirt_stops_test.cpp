// SPDX-License-Identifier: Apache-2.0
// QEMU's STOP and RESUME events through a real libvirt. The VM has no guest but its firmware.
#include <chrono>
#include <csignal>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/vm/subprocess.h"
#include "tests/vm/test_vm.h"
#include "vmm-agent/domain/pause.h"

namespace vpatch::test {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLongLimit{600'000};

std::string domain_xml(const std::string& name) {
  return fmt::format(
      "<domain type='qemu'><name>{}</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>"
      "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
      "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>"
      "</devices></domain>",
      name);
}

class LibvirtStopsTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string file = testing::TempDir() + target_.domain + ".xml";
    write_file(file, domain_xml(target_.domain));
    const ProcessResult created = virsh({"create", file});
    unlink(file.c_str());
    ASSERT_EQ(created.exit_code, 0) << created.err;
    domain_ = open();
    ASSERT_NE(domain_, nullptr);
  }

  void TearDown() override {
    domain_.reset();
    virsh({"destroy", target_.domain});
  }

  ProcessResult virsh(std::vector<std::string> words) const {
    words.insert(words.begin(), {"virsh", "-c", target_.uri});
    return run(words);
  }

  std::unique_ptr<Domain> open() const {
    auto domain = open_domain(target_, {});
    EXPECT_TRUE(domain) << domain.error().what;
    return domain ? *std::move(domain) : nullptr;
  }

  /// A pause held for so long: its length by the events.
  void expect_timed_by_events(Domain& domain, milliseconds held) const {
    auto pause = Pause::take(domain, target_, kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    std::this_thread::sleep_for(held);
    const auto length = pause->resume();
    ASSERT_TRUE(length) << length.error().what;
    EXPECT_TRUE(pause->from_events()) << domain.stopped_for({}).error().what;
    EXPECT_GE(*length, held);
    EXPECT_LE(*length, pause->held_for());
    fmt::print("pause: {} us by QEMU's events, {} us from here\n", length->count(),
               pause->held_for().count());
  }

  Target target_ = [] {
    Target target;
    target.domain = fmt::format("vpatch-test-stops-{}", getpid());
    return target;
  }();
  std::unique_ptr<Domain> domain_;
};

TEST_F(LibvirtStopsTest, TimeEachPause) {
  for (const milliseconds held : {milliseconds(50), milliseconds(0), milliseconds(0)}) {
    expect_timed_by_events(*domain_, held);
  }
}

TEST_F(LibvirtStopsTest, OfSomebodyElseAreHeardToo) {
  domain_->watch_stops({});
  ASSERT_EQ(virsh({"suspend", target_.domain}).exit_code, 0);
  EXPECT_FALSE(domain_->stopped_for({.timeout = milliseconds(50)}));
  ASSERT_EQ(virsh({"resume", target_.domain}).exit_code, 0);
  const auto length = domain_->stopped_for({});
  ASSERT_TRUE(length) << length.error().what;
  EXPECT_GE(*length, milliseconds(50));
  domain_->watch_stops({});
  EXPECT_FALSE(domain_->stopped_for({.timeout = milliseconds(50)}));
}

TEST_F(LibvirtStopsTest, OfOneConnectionDoNotEndAnothersWatch) {
  for (int round = 0; round < 20; ++round) {  // events come while the watch goes
    const auto other = open();
    ASSERT_NE(other, nullptr);
    other->watch_stops({});
    domain_->watch_stops({});
    ASSERT_TRUE(domain_->pause({}));
    ASSERT_TRUE(domain_->resume({}));
    EXPECT_TRUE(domain_->stopped_for({}));
  }
  expect_timed_by_events(*domain_, milliseconds(0));
}

TEST_F(LibvirtStopsTest, TellWhoeverElseResumesInAPause) {
  for (const bool by_another : {true, false}) {
    auto pause = Pause::take(*domain_, target_, kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    EXPECT_TRUE(pause->still_holds({}));
    if (by_another) {
      ASSERT_EQ(virsh({"resume", target_.domain}).exit_code, 0);
      ASSERT_EQ(virsh({"suspend", target_.domain}).exit_code, 0);
      EXPECT_TRUE(eventually([this] { return domain_->resumed_by_others(); }));
    }
    ASSERT_TRUE(pause->resume());
    EXPECT_EQ(pause->ran_on(), by_another);
  }
}

TEST_F(LibvirtStopsTest, AMonitorCallEndsInTimeWhenQemuHangs) {
  const auto qemu = domain_->vmm_pid();
  ASSERT_TRUE(qemu) << qemu.error().what;
  ASSERT_EQ(kill(*qemu, SIGSTOP), 0);
  const auto start = std::chrono::steady_clock::now();
  const auto reply =
      (*domain_->monitor())->execute("query-status", {}, {.timeout = milliseconds(100)});
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(kill(*qemu, SIGCONT), 0);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, qmp::Errc::timeout);
  EXPECT_LT(took, std::chrono::seconds(5));
}

TEST_F(LibvirtStopsTest, MigrationIsAskedForThroughLibvirt) {
  const auto migrating = domain_->migrating({});
  ASSERT_TRUE(migrating) << migrating.error().what;
  EXPECT_FALSE(*migrating);
}

}  // namespace
}  // namespace vpatch::test
