// SPDX-License-Identifier: Apache-2.0
// Real processes and a real QEMU: pauses whose owner dies, hangs or never was.
#include "vmm-agent/domain/guardian.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_domain.h"
#include "process.h"
#include "qemu.h"
#include "vmm-agent/domain/pause.h"
#include "vmm-agent/domain/vcpu_registers.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::SizeIs;
using testing::StartsWith;

constexpr milliseconds kLongLimit{600'000};
constexpr milliseconds kSoon{5000};        // far more than it takes, also on a busy machine
constexpr milliseconds kShortLimit{1500};  // long enough not to pass by chance

class GuardianTest : public testing::Test {
 protected:
  /// A process that pauses as `mode` says (see pause_holder.cpp), and its guardian.
  void start_holder(const std::string& mode, milliseconds limit = kLongLimit) {
    holder_.emplace(std::vector<std::string>{PAUSE_HOLDER, VPATCH_PROGRAM, qemu_.target().qmp,
                                             std::to_string(limit.count()), mode});
    const std::string pid = holder_->read_line();
    ASSERT_NE(pid, "") << "the holder ended: " << holder_->wait();
    guardian_.emplace(std::stoi(pid));
  }

  Qemu qemu_;
  std::optional<Child> holder_;
  std::optional<Watched> guardian_;
};

TEST_F(GuardianTest, ResumesWhenItsParentIsKilled) {
  start_holder("paused");
  ASSERT_EQ(qemu_.status(), "paused");
  holder_->kill();
  EXPECT_TRUE(qemu_.resumes(kSoon));
  EXPECT_TRUE(guardian_->ends());
}

TEST_F(GuardianTest, ResumesAPauseThatOutlastsItsLimitByEndingItsParent) {
  start_holder("paused", kShortLimit);
  ASSERT_TRUE(qemu_.resumes());
  EXPECT_EQ(holder_->wait(), -SIGKILL);
  EXPECT_TRUE(guardian_->ends());
}

TEST_F(GuardianTest, ResumesAPauseOfASuspendedParentPastItsLimit) {
  start_holder("paused", kShortLimit);
  Watched(holder_->pid()).signal(SIGSTOP);
  EXPECT_TRUE(qemu_.resumes());
  EXPECT_EQ(holder_->wait(), -SIGKILL);
}

TEST_F(GuardianTest, HoldsTheLockOfADeadParentUntilItHasResumed) {
  const std::string identity = qemu_.open()->identity();
  start_holder("paused");
  guardian_->signal(SIGSTOP);
  holder_->kill();
  holder_->wait();
  EXPECT_FALSE(PauseLock::take(identity, "web01", {.timeout = milliseconds(50)}));
  guardian_->signal(SIGCONT);
  ASSERT_TRUE(guardian_->ends());
  EXPECT_EQ(qemu_.status(), "running");
  EXPECT_TRUE(PauseLock::take(identity, "web01", {}));
}

TEST_F(GuardianTest, SurvivesTheSignalsThatEndItsParent) {
  start_holder("paused");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    guardian_->signal(signal);
  }
  holder_->kill();
  EXPECT_TRUE(qemu_.resumes(kSoon));
}

TEST_F(GuardianTest, KilledAtAnyInstantItsParentLeavesTheGuestRunning) {
  std::minstd_rand random(5);  // NOLINT(cert-msc51-cpp): the same instants each time
  for (int i = 0; i < 20; ++i) {
    start_holder("again");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    holder_->kill();
    ASSERT_TRUE(guardian_->ends());
    ASSERT_EQ(qemu_.status(), "running") << "round " << i;
  }
}

TEST_F(GuardianTest, LeavesAPauseOfSomebodyElseWhenItsParentPausedNothing) {
  start_holder("idle");
  qemu_.execute("stop");
  holder_->kill();
  EXPECT_TRUE(guardian_->ends());
  EXPECT_EQ(qemu_.status(), "paused");
}

TEST_F(GuardianTest, LeavesAPauseOfSomebodyElseThatItsParentFound) {
  qemu_.execute("stop");
  start_holder("others");
  holder_->kill();
  EXPECT_TRUE(guardian_->ends());
  EXPECT_EQ(qemu_.status(), "paused");
}

TEST_F(GuardianTest, LeavesAPauseOfSomebodyElseAfterItsParentHasResumed) {
  start_holder("resumed");
  qemu_.execute("stop");
  holder_->kill();
  EXPECT_TRUE(guardian_->ends());
  EXPECT_EQ(qemu_.status(), "paused");
}

TEST_F(GuardianTest, LeavesAParentAloneThatResumedWithinTheLimit) {
  start_holder("resumed", kShortLimit);
  EXPECT_FALSE(guardian_->ends(kShortLimit + milliseconds(500)));
  EXPECT_FALSE(Watched(holder_->pid()).ends(milliseconds(0)));
}

TEST_F(GuardianTest, EndsWhenTheVmIsGoneToo) {
  start_holder("paused");
  qemu_.kill();
  holder_->kill();
  EXPECT_TRUE(guardian_->ends());
}

TEST_F(GuardianTest, SparesItsParentPastTheLimitWhenTheVmIsGone) {
  start_holder("paused", kShortLimit);
  qemu_.kill();
  EXPECT_FALSE(Watched(holder_->pid()).ends(kShortLimit + milliseconds(1000)));
}

TEST_F(GuardianTest, KilledItselfItDoesNoHarm) {
  const auto domain = qemu_.open();
  auto guardian = Guardian::start(qemu_.target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(guardian) << guardian.error().what;
  auto pause = Pause::take(*domain, *guardian, {});
  ASSERT_TRUE(pause) << pause.error().what;
  const Watched process(guardian->pid());
  process.signal(SIGKILL);
  ASSERT_TRUE(process.ends());
  EXPECT_EQ(qemu_.status(), "paused");
  EXPECT_TRUE(pause->resume());
  EXPECT_EQ(qemu_.status(), "running");
}

TEST_F(GuardianTest, KilledItselfThereIsNoFurtherPause) {
  const auto domain = qemu_.open();
  auto guardian = Guardian::start(qemu_.target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(guardian) << guardian.error().what;
  const Watched process(guardian->pid());
  process.signal(SIGKILL);
  ASSERT_TRUE(process.ends());
  const auto pause = Pause::take(*domain, *guardian, {});
  ASSERT_FALSE(pause);
  EXPECT_EQ(pause.error().outcome, Outcome::refused);
  EXPECT_EQ(qemu_.status(), "running");
}

TEST_F(GuardianTest, GetsThePauseThatItsParentCannotResume) {
  FakeDomain domain;
  domain.failing_resumes = 1000;
  {
    auto pause = Pause::take(domain, qemu_.target(), kLongLimit, {}, VPATCH_PROGRAM);
    ASSERT_TRUE(pause) << pause.error().what;
    qemu_.execute("stop");
  }
  EXPECT_TRUE(qemu_.resumes());
}

TEST_F(GuardianTest, RealPauseStopsAndResumesTheMachine) {
  const auto domain = qemu_.open();
  auto pause = Pause::take(*domain, qemu_.target(), kLongLimit, {}, VPATCH_PROGRAM);
  ASSERT_TRUE(pause) << pause.error().what;
  EXPECT_EQ(qemu_.status(), "paused");
  const auto lasted = pause->resume();
  ASSERT_TRUE(lasted) << lasted.error().what;
  EXPECT_GT(lasted->count(), 0);
  EXPECT_EQ(qemu_.status(), "running");
}

TEST_F(GuardianTest, PausingTwiceAndResumingTwiceIsDone) {
  const auto domain = qemu_.open();
  EXPECT_TRUE(domain->pause({}));
  EXPECT_TRUE(domain->pause({}));
  EXPECT_EQ(qemu_.status(), "paused");
  EXPECT_TRUE(domain->resume({}));
  EXPECT_TRUE(domain->resume({}));
  EXPECT_EQ(qemu_.status(), "running");
}

TEST_F(GuardianTest, RegistersOfARealMachineAreThoseOfAllItsVcpus) {
  const auto domain = qemu_.open();
  const auto vcpus = read_registers(*domain, {});
  ASSERT_TRUE(vcpus) << vcpus.error().what;
  ASSERT_THAT(*vcpus, SizeIs(2));
  EXPECT_EQ(vcpus->at(0).index, 0U);
  EXPECT_EQ(vcpus->at(1).index, 1U);
}

/// Its guardian's /proc folder, of a VM that is nowhere.
class GuardianProcessTest : public testing::Test {
 protected:
  Result<Guardian> start(const char* program = VPATCH_PROGRAM,
                         const qmp::CallOptions& options = {}) {
    Target target;
    target.qmp = "/nonexistent/qmp";
    return Guardian::start(target, kLongLimit, options, program);
  }
};

TEST_F(GuardianProcessTest, EndsWithItsGuardian) {
  auto guardian = start();
  ASSERT_TRUE(guardian) << guardian.error().what;
  const Watched process(guardian->pid());
  {
    const Guardian gone = *std::move(guardian);
  }
  EXPECT_TRUE(process.ends());
}

TEST_F(GuardianProcessTest, InheritsNoDescriptorAndNoSession) {
  const introspect::UniqueFd leaky(open("/dev/zero", O_RDONLY));  // without close-on-exec
  const auto guardian = start();
  ASSERT_TRUE(guardian) << guardian.error().what;
  EXPECT_EQ(getsid(guardian->pid()), guardian->pid());
  std::set<std::string> files;
  const std::string folder = "/proc/" + std::to_string(guardian->pid()) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.insert(std::filesystem::read_symlink(entry).string());
  }
  EXPECT_THAT(files, ElementsAre("/dev/null", "anon_inode:[pidfd]", StartsWith("socket:")));
}

TEST_F(GuardianProcessTest, InheritsOnlyWhatLibvirtNeedsOfTheEnvironment) {
  setenv("VPATCH_TEST_SECRET", "1", 1);  // NOLINT(concurrency-mt-unsafe): no other thread here
  const auto guardian = start();
  ASSERT_TRUE(guardian) << guardian.error().what;
  std::ifstream file("/proc/" + std::to_string(guardian->pid()) + "/environ", std::ios::binary);
  std::string name;
  while (std::getline(file, name, '\0')) {
    EXPECT_THAT(name, testing::ContainsRegex("^(HOME|PATH|USER|XDG_[A-Z_]+|LIBVIRT_AUTH_FILE|"
                                             "SSH_AUTH_SOCK|KRB5CCNAME)="));
  }
}

TEST_F(GuardianProcessTest, ThatDoesNotAnswerIsGivenUp) {
  const Socket folder;
  const std::string program = folder.path() + ".sh";
  std::ofstream(program) << "#!/bin/sh\nexec cat <&3\n";  // until the other end is closed
  chmod(program.c_str(), 0700);
  const auto guardian = start(program.c_str(), {.timeout = milliseconds(50)});
  ASSERT_FALSE(guardian);
  EXPECT_THAT(guardian.error().what, testing::HasSubstr("does not answer"));
}

TEST_F(GuardianProcessTest, StartedByHandIsRefused) {
  EXPECT_EQ(Child({VPATCH_PROGRAM, "guardian"}).wait(), 2);
  EXPECT_EQ(Child({VPATCH_PROGRAM, "guardian", "1000", "", "", "/nonexistent/qmp"}).wait(), 2);
}

}  // namespace
}  // namespace vpatch
