// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain_lock.h"

#include <array>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vpatch {
namespace {

using testing::HasSubstr;

/// A lock identity that no other test and no VM uses; its file is taken away at the end.
class DomainLockTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 && access("/run/vpatch", W_OK) != 0) {
      GTEST_SKIP() << "/run/vpatch is not writable for this user";
    }
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove("/run/vpatch/" + identity_ + ".lock", ignored);
    std::filesystem::remove("/run/vpatch/" + identity_ + "-other.lock", ignored);
  }

  Result<DomainLock> acquire(const std::string& what = "apply p1.ko") const {
    return DomainLock::acquire(identity_, "web01", what);
  }

  const std::string identity_ = fmt::format(
      "test-{}-{}", testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
};

TEST_F(DomainLockTest, RefusesASecondHolder) {
  const auto first = acquire();
  ASSERT_TRUE(first) << first.error().what;
  const auto second = acquire();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().outcome, Outcome::refused);
}

TEST_F(DomainLockTest, NamesTheHolder) {
  const auto first = acquire("apply p1.ko");
  const auto second = acquire("revert p1");
  ASSERT_FALSE(second);
  EXPECT_EQ(
      second.error().what,
      fmt::format("web01: busy: vpatch apply p1.ko (process {}) works on this domain", getpid()));
}

TEST_F(DomainLockTest, IsFreeAfterItsHolderIsGone) {
  static_cast<void>(acquire());
  EXPECT_TRUE(acquire());
}

TEST_F(DomainLockTest, NamesTheNewHolderAfterALongerName) {
  static_cast<void>(acquire("apply a-livepatch-with-a-rather-long-name.ko"));
  const auto holder = acquire("revert p1");
  const auto refused = acquire();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().what,
              HasSubstr(fmt::format("busy: vpatch revert p1 (process {}) works", getpid())));
}

TEST_F(DomainLockTest, LeavesOtherDomainsAlone) {
  const auto first = acquire();
  const auto other = DomainLock::acquire(identity_ + "-other", "web02", "apply p1.ko");
  EXPECT_TRUE(other);
}

TEST_F(DomainLockTest, IsReleasedWhenItsHolderDies) {
  std::array<int, 2> taken{};
  std::array<int, 2> die{};
  ASSERT_EQ(pipe(taken.data()), 0);
  ASSERT_EQ(pipe(die.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto lock = acquire();
    char byte = lock ? 'y' : 'n';
    static_cast<void>(write(taken[1], &byte, 1));
    static_cast<void>(read(die[0], &byte, 1));
    _exit(0);  // no destructor runs
  }
  char byte = 0;
  ASSERT_EQ(read(taken[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  const auto refused = acquire();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().what, HasSubstr(fmt::format("process {}", child)));
  ASSERT_EQ(write(die[1], &byte, 1), 1);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(acquire());
  for (const int fd : {taken[0], taken[1], die[0], die[1]}) {
    close(fd);
  }
}

}  // namespace
}  // namespace vpatch
