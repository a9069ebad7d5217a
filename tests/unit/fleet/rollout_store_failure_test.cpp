// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fleet/store_support.h"
#include "vmm-agent/journal/schema.h"

namespace vpatch::fleet {
namespace {

using rollout::DomainState;
using rollout::Step;
using testing::HasSubstr;
using testing::IsEmpty;

// sha256sum of some_file()
constexpr const char* kSha256 = "3bdbb4fe8397cd2b842430b39ccff01a8663c751945ef5e9a09e267fb8b1d359";

class RolloutStoreFailureTest : public RolloutStoreTest {
 protected:
  void change(const std::string& sql) const {
    SQLite::Database database(file().string(), SQLite::OPEN_READWRITE);
    database.exec(sql);
  }
};

class KeptFilesTest : public RolloutStoreTest {
 protected:
  /// Has the livepatch registered and unregistered: its copy goes when nobody needs it.
  void register_and_unregister() {
    Registration registration = some_registration();
    registration.file_sha256 = kSha256;
    Journal journal = open();
    const OperationId operation = journal.begin(some_start()).value();
    ASSERT_TRUE(journal.register_patch(operation, registration, some_file()));
    ASSERT_TRUE(journal.unregister_patch(operation, registration.identity, registration.patch));
  }
};

TEST_F(RolloutStoreFailureTest, NameThatIsTakenIsRefused) {
  const RolloutId id = store_.create(some_rollout("fix", 0)).value();
  rollout::RolloutRecord finished;
  finished.finished = true;
  ASSERT_TRUE(store_.save(id, {.domains = {}, .rollout = finished, .actions = {}}, {}));
  const auto created = store_.create(some_rollout("fix", 1));
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().outcome, Outcome::refused);
  EXPECT_THAT(created.error().what, HasSubstr("there was a rollout fix before"));
  EXPECT_EQ(store_.list().value().size(), 1U);
}

TEST_F(RolloutStoreFailureTest, RolloutOfADomainThatIsHeldIsRefused) {
  NewRollout first = some_rollout("first", 2);
  first.domains[1].name = "web\n1";
  ASSERT_TRUE(store_.create(first));
  const auto created = open_store().create(some_rollout("second", 3));
  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().outcome, Outcome::refused);
  EXPECT_THAT(created.error().what, HasSubstr("the unfinished rollout first holds \"web0\""));
  NewRollout third = some_rollout("third", 2);
  third.domains.erase(third.domains.begin());
  EXPECT_THAT(store_.create(third).error().what, HasSubstr("\"web\\n1\"")) << "as one line";
  EXPECT_EQ(store_.list().value().size(), 1U);
}

TEST_F(RolloutStoreFailureTest, RolloutIsCreatedAsAWhole) {
  NewRollout rollout = some_rollout();
  rollout.domains[2].file = 1;
  ASSERT_FALSE(store_.create(rollout)) << "there is no such file";
  EXPECT_THAT(store_.list().value(), IsEmpty());
  EXPECT_THAT(store_.overlaps(std::vector{rollout.domains[0].identity}).value(), IsEmpty());
}

TEST_F(RolloutStoreFailureTest, StepIsSavedAsAWhole) {
  const RolloutId id = store_.create(some_rollout()).value();
  Step step;
  step.domains = {{0, some_record(DomainState::applying)}, {3, some_record(DomainState::applying)}};
  const RolloutEvent event{.at = "", .domain = 0, .kind = "applying", .text = ""};
  const auto saved = store_.save(id, step, {&event, 1});
  ASSERT_FALSE(saved);
  EXPECT_THAT(saved.error().what, HasSubstr("has no domain 3"));
  EXPECT_EQ(store_.load("fix").value().begin.domains[0].record, rollout::DomainRecord());
  EXPECT_THAT(store_.events(id).value(), IsEmpty());
}

TEST_F(RolloutStoreFailureTest, WhatIsNotThereIsRefused) {
  const RolloutId id = store_.create(some_rollout()).value();
  EXPECT_THAT(store_.load("fax").error().what, HasSubstr("there is no rollout fax"));
  EXPECT_EQ(store_.load("fax").error().outcome, Outcome::refused);
  EXPECT_FALSE(store_.save_mark(id, 3, {}, {}));
  EXPECT_FALSE(store_.save_report(id, 3, RolloutStore::ReportKind::apply, {}));
  EXPECT_FALSE(store_.add_event(RolloutId{99}, {}));
  EXPECT_FALSE(store_.ask(RolloutId{99}, {}));
  EXPECT_FALSE(store_.take(CommandId{99}));
  EXPECT_FALSE(store_.was_taken(CommandId{99}));
  rollout::Step step;
  step.rollout = rollout::RolloutRecord();
  EXPECT_FALSE(store_.save(RolloutId{99}, step, {}));
}

TEST_F(RolloutStoreFailureTest, WordThatIsNotKnownIsRefused) {
  ASSERT_TRUE(store_.create(some_rollout()));
  change("UPDATE rollout_domain SET state = 'dancing' WHERE number = 1");
  EXPECT_THAT(store_.load("fix").error().what, HasSubstr("the state of domain 1"));
  change("UPDATE rollout SET course = 'sideways'");
  EXPECT_THAT(store_.load("fix").error().what, HasSubstr("course or cause of rollout fix"));
}

TEST_F(RolloutStoreFailureTest, DomainThatIsMissingIsRefused) {
  ASSERT_TRUE(store_.create(some_rollout()));
  change("DELETE FROM rollout_domain WHERE number = 1");
  EXPECT_THAT(store_.load("fix").error().what, HasSubstr("domain 1 or its file is missing"));
}

TEST_F(RolloutStoreFailureTest, ReportThatIsNoObjectIsLeftOut) {
  const RolloutId id = store_.create(some_rollout()).value();
  ASSERT_TRUE(store_.save_report(id, 0, RolloutStore::ReportKind::apply, some_report()));
  change("UPDATE rollout_report SET report = '[1]'");
  EXPECT_EQ(store_.load("fix").value().begin.domains[0].apply_report, std::nullopt);
}

TEST_F(RolloutStoreFailureTest, FileThatWasRemovedIsAnError) {
  const RolloutId id = store_.create(some_rollout()).value();
  std::filesystem::remove(file());
  const auto added = store_.add_event(id, {});
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().what, HasSubstr("the file was removed"));
}

TEST(RolloutStoreOpenTest, FolderThatCannotBeMadeIsAnError) {
  const auto store = RolloutStore::open("/proc/vpatch/journal.db");
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().outcome, Outcome::refused);
  EXPECT_THAT(store.error().hint, HasSubstr("VPATCH_JOURNAL"));
}

class OlderJournalTest : public JournalTest {};

TEST_F(OlderJournalTest, GetsTheTablesAndKeepsWhatItHas) {
  std::filesystem::create_directory(file().parent_path());
  {
    SQLite::Database database(file().string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    ASSERT_TRUE(migrate(database, journal_migrations().first(3)));
    database.exec("CREATE TABLE mine AS SELECT 7 AS kept");
  }
  RolloutStore store = RolloutStore::open(file()).value();
  ASSERT_TRUE(store.create(some_rollout()));
  EXPECT_THAT(open().verify().value().problems, IsEmpty());
  SQLite::Database database(file().string());
  EXPECT_EQ(database.execAndGet("PRAGMA user_version").getInt(), 4);
  EXPECT_EQ(database.execAndGet("SELECT kept FROM mine").getInt(), 7);
}

TEST_F(KeptFilesTest, AreGivenBack) {
  ASSERT_TRUE(store_.keep_file(kSha256, some_file()));
  EXPECT_TRUE(std::ranges::equal(store_.read_file(kSha256).value(), some_file()));
  EXPECT_TRUE(std::filesystem::exists(open().copy_of(kSha256)));
}

TEST_F(KeptFilesTest, HaveTheirSha256) {
  EXPECT_THAT(store_.keep_file(std::string(64, 'a'), some_file()).error().what,
              HasSubstr("its SHA-256 is"));
  EXPECT_FALSE(store_.keep_file("../../escaped", some_file()));
  ASSERT_TRUE(store_.keep_file(kSha256, some_file()));
  std::ofstream(open().copy_of(kSha256)) << "something else";
  EXPECT_THAT(store_.read_file(kSha256).error().what, HasSubstr("is damaged"));
}

TEST_F(KeptFilesTest, ThatAreNotThereAreRefused) {
  EXPECT_EQ(store_.read_file(kSha256).error().outcome, Outcome::refused);
  EXPECT_THAT(store_.read_file("../journal").error().what, HasSubstr("64 digits"));
}

TEST_F(KeptFilesTest, StayForARolloutThatPutsThemInForce) {
  NewRollout rollout = some_rollout();
  rollout.files[0].sha256 = kSha256;
  ASSERT_TRUE(store_.create(rollout));
  register_and_unregister();
  EXPECT_TRUE(store_.read_file(kSha256));
}

TEST_F(KeptFilesTest, StayForARolloutThatMayPutThemBack) {
  const RolloutId id = store_.create(some_rollout()).value();
  ASSERT_TRUE(store_.save_mark(id, 0, {}, std::vector{std::string(kSha256)}));
  register_and_unregister();
  EXPECT_TRUE(store_.read_file(kSha256));
}

TEST_F(KeptFilesTest, GoWithoutARolloutThatNeedsThem) {
  ASSERT_TRUE(store_.create(some_rollout()));
  register_and_unregister();
  EXPECT_FALSE(store_.read_file(kSha256));
}

TEST_F(RolloutStoreTest, RolloutsDoNotDisturbTheChainOfTheJournal) {
  Journal journal = open();
  const OperationId operation = journal.begin(some_start()).value();
  ASSERT_TRUE(store_.create(some_rollout()));
  ASSERT_TRUE(journal.end(operation, some_end()));
  EXPECT_THAT(journal.verify().value().problems, IsEmpty());
}

}  // namespace
}  // namespace vpatch::fleet
