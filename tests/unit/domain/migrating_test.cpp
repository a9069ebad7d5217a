// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_domain.h"
#include "qemu.h"
#include "tests/unit/qmp/scripted_channel.h"

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
  EXPECT_FALSE(domain.migrating({}));
  qmp::ScriptedChannel channel;
  channel.then_fail(qmp::Errc::timeout, "no answer");
  domain.channel = &channel;
  const auto migrating = domain.migrating({});
  ASSERT_FALSE(migrating);
  EXPECT_THAT(migrating.error().what, HasSubstr("web01: no answer"));
  EXPECT_EQ(migrating.error().hint, "");
}

TEST(Migrating, OfARealQemuEndsWithTheMigration) {
  const Socket nobody_reads;
  Qemu qemu;
  const auto domain = qemu.open();
  ASSERT_NE(domain, nullptr);
  EXPECT_FALSE(domain->migrating({}).value());
  qemu.execute("migrate-set-capabilities",
               {{"capabilities", {{{"capability", "events"}, {"state", true}}}}});
  qemu.execute("migrate-set-parameters", {{"max-bandwidth", 4096}});
  qemu.execute("migrate", {{"uri", "unix:" + nobody_reads.path()}});
  EXPECT_TRUE(domain->migrating({}).value());
  ASSERT_TRUE(qemu.migration_is("active"));
  EXPECT_TRUE(domain->migrating({}).value());
  qemu.execute("migrate_cancel");
  ASSERT_TRUE(qemu.migration_is("cancelled"));
  EXPECT_FALSE(domain->migrating({}).value());
}

}  // namespace
}  // namespace vpatch
