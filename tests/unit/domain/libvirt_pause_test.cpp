// SPDX-License-Identifier: Apache-2.0
// libvirt's own test driver: it keeps domains within this process, and needs no daemon.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_domain.h"
#include "process.h"
#include "vmm-agent/domain/pause.h"

namespace vpatch {
namespace {

using testing::HasSubstr;

constexpr std::chrono::milliseconds kLongLimit{600'000};

/// A domain whose hypervisor has no QEMU monitor, with one that knows of no migration.
class WithMonitor final : public Domain {
 public:
  explicit WithMonitor(std::unique_ptr<Domain> domain) : domain_(std::move(domain)) {}

  const std::string& name() const override { return domain_->name(); }
  const std::string& identity() const override { return identity_; }
  Result<RunState> run_state(const qmp::CallOptions& options) override {
    return domain_->run_state(options);
  }
  Result<void> pause(const qmp::CallOptions& options) override { return domain_->pause(options); }
  Result<void> resume(const qmp::CallOptions& options) override { return domain_->resume(options); }
  void watch_stops(const qmp::CallOptions& options) override { domain_->watch_stops(options); }
  Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions& options) override {
    return domain_->stopped_for(options);
  }
  bool resumed_by_others() override { return domain_->resumed_by_others(); }
  Result<qmp::Channel*> monitor() override { return &monitor_; }
  Result<qmp::Channel*> agent(const qmp::CallOptions& options) override {
    return domain_->agent(options);
  }
  Result<pid_t> vmm_pid() override { return domain_->vmm_pid(); }

 private:
  std::unique_ptr<Domain> domain_;
  FakeMonitor monitor_;
  const std::string identity_ = own_identity();
};

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
    domain_ = std::make_unique<WithMonitor>(*std::move(domain));
  }
  void TearDown() override { remove_lock(own_identity()); }

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

/// A guardian that is left alone with what was announced to it.
class LibvirtGuardianTest : public LibvirtPauseTest {
 protected:
  void SetUp() override {
    LibvirtPauseTest::SetUp();
    auto guardian = Guardian::start(target(), kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(guardian) << guardian.error().what;
    guardian_.emplace(*std::move(guardian));
    process_.emplace(guardian_->pid());
    const auto lock = try_lock();
    ASSERT_TRUE(lock) << lock.error().what;
    ASSERT_TRUE(guardian_->arm(*lock, {}));
  }

  static Result<PauseLock> try_lock() {
    return PauseLock::take(own_identity(), "test", {.timeout = std::chrono::milliseconds(10)});
  }

  std::optional<Guardian> guardian_;
  std::optional<Watched> process_;
};

TEST_F(LibvirtGuardianTest, WatchesAWhileForALateSuspendThenEnds) {
  guardian_->disarm_after_failure();
  EXPECT_FALSE(process_->ends(std::chrono::milliseconds(500)));
  EXPECT_FALSE(try_lock()) << "it may resume still";
  EXPECT_TRUE(process_->ends());
  EXPECT_TRUE(try_lock());
}

TEST_F(LibvirtGuardianTest, EndsAtOnceWhenThePauseWasInForceAndIsOver) {
  guardian_->paused();
  guardian_->hand_over();
  EXPECT_TRUE(process_->ends(std::chrono::seconds(10)));
}

TEST_F(LibvirtGuardianTest, LetsGoOfTheLockWhenDisarmed) {
  EXPECT_FALSE(try_lock());
  guardian_->disarm();
  EXPECT_TRUE(try_lock());
  EXPECT_FALSE(process_->ends(std::chrono::milliseconds(0)));
}

/// The guardian's connection to the test driver has a domain of its own, here a paused one.
TEST(LibvirtGuardian, EndsAHungParentBeforeItResumes) {
  const std::string uuid = "5bd0c64f-8e3b-4d0a-9d52-6f1c2a7be901";
  const std::string node = testing::TempDir() + own_identity() + ".xml";
  std::ofstream(node) << "<node><domain type='test' "
                         "xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>test</name>"
                      << "<uuid>" << uuid
                      << "</uuid>"
                         "<memory>1024</memory><os><type>hvm</type></os>"
                         "<test:runstate>3</test:runstate></domain></node>";
  Child holder({PAUSE_HOLDER, VPATCH_PROGRAM, "test://" + node, "300", "armed"});
  const std::string pid = holder.read_line();
  ASSERT_NE(pid, "") << "the holder ended: " << holder.wait();
  const Watched guardian(std::stoi(pid));
  EXPECT_EQ(holder.wait(), -SIGKILL);
  EXPECT_TRUE(guardian.ends());
  std::filesystem::remove(node);
  remove_lock(uuid);
}

}  // namespace
}  // namespace vpatch
