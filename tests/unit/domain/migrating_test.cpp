// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_domain.h"
#include "qemu.h"
#include "tests/unit/qmp/scripted_channel.h"
#include "vmm-agent/domain/pause.h"

namespace vpatch {
namespace {

using testing::HasSubstr;

Result<bool> migrating_by(const std::string& reply) {
  qmp::ScriptedChannel channel;
  channel.then(reply);
  FakeDomain domain;
  domain.channel = &channel;
  const auto migrating = domain.migrating({});
  EXPECT_THAT(channel.commands(), testing::ElementsAre("query-migrate"));
  return migrating;
}

TEST(Migrating, IsEachStageOfAMigration) {
  for (const char* status :
       {"setup", "active", "pre-switchover", "device", "postcopy-active", "postcopy-paused",
        "postcopy-recover", "cancelling", "wait-unplug", "colo", "a-stage-of-the-future"}) {
    EXPECT_TRUE(migrating_by(R"({"status":")" + std::string(status) + R"("})").value()) << status;
  }
}

TEST(Migrating, IsNotWhatNeverBeganOrIsOver) {
  for (const char* status : {"none", "cancelled", "failed", "completed"}) {
    EXPECT_FALSE(migrating_by(R"({"status":")" + std::string(status) + R"("})").value()) << status;
  }
  EXPECT_FALSE(migrating_by("{}").value());
}

TEST(Migrating, IsUnknownWhenTheReplyIsAnythingElse) {
  for (const char* reply : {"[]", "null", R"({"status":1})"}) {
    const auto migrating = migrating_by(reply);
    ASSERT_FALSE(migrating) << reply;
    EXPECT_EQ(migrating.error().outcome, Outcome::unreachable);
  }
}

TEST(Migrating, IsUnknownWithoutAMonitorOrAnAnswer) {
  FakeDomain domain;
  domain.channel = nullptr;
  EXPECT_FALSE(domain.migrating({}));
  qmp::ScriptedChannel channel;
  channel.then_fail(qmp::Errc::timeout, "no answer");
  domain.channel = &channel;
  const auto migrating = domain.migrating({});
  ASSERT_FALSE(migrating);
  EXPECT_THAT(migrating.error().what, HasSubstr("web01: no answer"));
  EXPECT_EQ(migrating.error().hint, "");
}

class MigratingQemu : public testing::Test {
 protected:
  void SetUp() override {
    domain_ = qemu_.open();
    ASSERT_NE(domain_, nullptr);
    qemu_.execute("migrate-set-capabilities",
                  {{"capabilities", {{{"capability", "events"}, {"state", true}}}}});
  }

  /// To a host that takes nothing.
  void begin_migration() {
    qemu_.execute("migrate-set-parameters", {{"max-bandwidth", 4096}});
    qemu_.execute("migrate", {{"uri", "unix:" + nobody_reads_.path()}});
  }

  const Socket nobody_reads_;
  Qemu qemu_;
  std::unique_ptr<Domain> domain_;
};

TEST_F(MigratingQemu, IsSoUntilTheMigrationEnds) {
  EXPECT_FALSE(domain_->migrating({}).value());
  begin_migration();
  EXPECT_TRUE(domain_->migrating({}).value());
  ASSERT_TRUE(qemu_.migration_is("active"));
  EXPECT_TRUE(domain_->migrating({}).value());
  qemu_.execute("migrate_cancel");
  ASSERT_TRUE(qemu_.migration_is("cancelled"));
  EXPECT_FALSE(domain_->migrating({}).value());
}

TEST_F(MigratingQemu, IsNotPaused) {
  begin_migration();
  const auto pause =
      Pause::take(*domain_, qemu_.target(), std::chrono::seconds(600), {}, VPATCH_PROGRAM);
  ASSERT_FALSE(pause);
  EXPECT_EQ(pause.error().outcome, Outcome::refused);
  EXPECT_EQ(qemu_.status(), "running");
}

TEST_F(MigratingQemu, IsNotResumedOnceItIsElsewhere) {
  ASSERT_TRUE(domain_->pause({}));
  EXPECT_EQ(domain_->run_state({}).value(), RunState::paused);
  qemu_.execute("migrate", {{"uri", "exec:cat >/dev/null"}});
  ASSERT_TRUE(qemu_.migration_is("completed"));
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (qemu_.status() == "finish-migrate" && std::chrono::steady_clock::now() < give_up) {
    EXPECT_EQ(domain_->run_state({}).value(), RunState::held);
  }
  ASSERT_EQ(qemu_.status(), "postmigrate");
  EXPECT_EQ(domain_->run_state({}).value(), RunState::held);
  const auto resumed = domain_->resume({});
  ASSERT_FALSE(resumed);
  EXPECT_THAT(resumed.error().what, HasSubstr("postmigrate"));
  EXPECT_EQ(qemu_.status(), "postmigrate");
}

}  // namespace
}  // namespace vpatch
