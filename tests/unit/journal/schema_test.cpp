// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/schema.h"

#include <array>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::HasSubstr;

constexpr std::array kTwo = {Migration{"CREATE TABLE one (a)", nullptr},
                             Migration{"CREATE TABLE two (b)", nullptr}};

class SchemaTest : public testing::Test {
 protected:
  int version() { return database_.execAndGet("PRAGMA user_version").getInt(); }

  SQLite::Database database_{":memory:", SQLite::OPEN_READWRITE};
};

TEST_F(SchemaTest, EachMigrationIsOneVersion) {
  ASSERT_TRUE(migrate(database_, std::span(kTwo).first(1)));
  EXPECT_EQ(version(), 1);
  ASSERT_TRUE(migrate(database_, kTwo));
  EXPECT_EQ(version(), 2);
  EXPECT_TRUE(database_.tableExists("one"));
  EXPECT_TRUE(database_.tableExists("two"));
  EXPECT_TRUE(migrate(database_, kTwo)) << "again";
}

TEST_F(SchemaTest, AMigrationThatFailsChangesNothing) {
  constexpr std::array kBroken = {Migration{"CREATE TABLE one (a)", nullptr},
                                  Migration{"CREATE TABLE two (b); nonsense", nullptr}};
  EXPECT_THROW(static_cast<void>(migrate(database_, kBroken)), SQLite::Exception);
  EXPECT_EQ(version(), 1);
  EXPECT_FALSE(database_.tableExists("two"));
  EXPECT_TRUE(migrate(database_, kTwo));
}

TEST_F(SchemaTest, AMigrationIsMoreThanItsSql) {
  const std::array steps = {Migration{"CREATE TABLE one (a)", [](SQLite::Database& database) {
                                        database.exec("CREATE TABLE x (b)");
                                      }}};
  ASSERT_TRUE(migrate(database_, steps));
  EXPECT_TRUE(database_.tableExists("x"));
}

TEST_F(SchemaTest, ANewerFileIsRefused) {
  ASSERT_TRUE(migrate(database_, kTwo));
  const auto migrated = migrate(database_, std::span(kTwo).first(1));
  ASSERT_FALSE(migrated);
  EXPECT_EQ(migrated.error().outcome, Outcome::refused);
  EXPECT_THAT(migrated.error().what, HasSubstr("layout is version 2"));
  EXPECT_THAT(migrated.error().hint, HasSubstr("Update vpatch"));
}

TEST_F(SchemaTest, ADatabaseOfSomethingElseIsRefused) {
  database_.exec("CREATE TABLE bookmarks (url)");
  const auto migrated = migrate(database_, kTwo);
  ASSERT_FALSE(migrated);
  EXPECT_THAT(migrated.error().what, HasSubstr("not a journal"));
  EXPECT_FALSE(database_.tableExists("one"));
}

TEST_F(SchemaTest, EventsAreOfAnOperationAndHoldJson) {
  ASSERT_TRUE(migrate(database_, journal_migrations()));
  database_.exec("PRAGMA foreign_keys = ON");
  EXPECT_THROW(database_.exec("INSERT INTO event VALUES (1, 1, '', '', '{}', 1, '')"),
               SQLite::Exception);
  database_.exec(
      "INSERT INTO operation (started_at, verb, domain, identity, patch, file_sha256, "
      "patch_build_id, user, vpatch_version, guest_release, boot_id) "
      "VALUES ('', '', '', '', '', '', '', '', '', '', '')");
  EXPECT_THROW(database_.exec("INSERT INTO event VALUES (1, 1, '', '', 'text', 1, '')"),
               SQLite::Exception);
  EXPECT_EQ(database_.exec("INSERT INTO event VALUES (1, 1, '', '', '{}', 1, '')"), 1);
}

}  // namespace
}  // namespace vpatch
