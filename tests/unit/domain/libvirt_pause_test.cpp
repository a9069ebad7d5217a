// SPDX-License-Identifier: Apache-2.0
// libvirt's own test driver: it keeps domains within this process, and needs no daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "process.h"
#include "vmm-agent/domain/pause.h"

namespace vpatch {
namespace {

using testing::HasSubstr;

constexpr std::chrono::milliseconds kLongLimit{600'000};

class LibvirtPauseTest : public testing::Test {
 protected:
  static Target target() {
    Target target;
    target.uri = "test:///default";
    target.domain = "test";
    return target;
  }

  void SetUp() override {
    auto domain = open_domain(target(), {});
    ASSERT_TRUE(domain) << domain.error().what;
    domain_ = *std::move(domain);
  }

  RunState state() { return domain_->run_state({}).value(); }

  std::unique_ptr<Domain> domain_;
};

TEST_F(LibvirtPauseTest, PausesAndResumes) {
  ASSERT_TRUE(domain_->pause({}));
  EXPECT_EQ(state(), RunState::paused);
  ASSERT_TRUE(domain_->resume({}));
  EXPECT_EQ(state(), RunState::running);
}

TEST_F(LibvirtPauseTest, ResumingARunningDomainIsDone) {
  EXPECT_TRUE(domain_->resume({}));
  EXPECT_EQ(state(), RunState::running);
}

TEST_F(LibvirtPauseTest, APauseIsADebtWithAGuardianOfItsOwnConnection) {
  auto pause = Pause::take(*domain_, target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_EQ(state(), RunState::paused);
  EXPECT_TRUE(pause->resume());
  EXPECT_EQ(state(), RunState::running);
}

TEST_F(LibvirtPauseTest, WithoutMonitorEventsIsTimedFromHere) {
  auto pause = Pause::take(*domain_, target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_GT(pause->resume().value().count(), 0);
  EXPECT_FALSE(pause->from_events());
  const auto stopped = domain_->stopped_for({});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().outcome, Outcome::unreachable);
  EXPECT_THAT(stopped.error().what, HasSubstr("test: watch for STOP and RESUME: "));
}

TEST_F(LibvirtPauseTest, IsRefusedWhenTheGuardianCannotConnect) {
  Target nowhere = target();
  nowhere.domain = "nobody";
  const auto pause = Pause::take(*domain_, nowhere, kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_FALSE(pause);
  EXPECT_THAT(pause.error().what, HasSubstr("guardian"));
  EXPECT_EQ(state(), RunState::running);
}

TEST_F(LibvirtPauseTest, GuardianWatchesAWhileForALateSuspendThenEnds) {
  auto guardian = Guardian::start(target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(guardian) << guardian.error().what;
  const Watched process(guardian->pid());
  ASSERT_TRUE(guardian->arm({}));
  guardian->disarm_after_failure();
  EXPECT_FALSE(process.ends(std::chrono::milliseconds(500)));
  EXPECT_TRUE(process.ends());
}

}  // namespace
}  // namespace vpatch
