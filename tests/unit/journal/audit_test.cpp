// SPDX-License-Identifier: Apache-2.0
// Whether a journal that somebody changed is told from one that nobody did.
#include <sstream>
#include <string>
#include <vector>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/journal/schema.h"

namespace vpatch {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class AuditTest : public JournalTest {
 protected:
  /// Three operations: entries 1 to 4 (begin, step, step, end), 5 to 7 (begin, registered, end) and
  /// 8 (begin).
  AuditTest() {
    Journal journal = open();
    const OperationId first = journal.begin(some_start()).value();
    EXPECT_TRUE(journal.event(first, "step", {{"text", "delivered"}}));
    EXPECT_TRUE(journal.event(first, "step", {{"text", "loaded"}}));
    EXPECT_TRUE(journal.end(first, some_end()));
    const OperationId second = journal.begin({.verb = "apply"}).value();
    EXPECT_TRUE(journal.register_patch(second, some_registration(), some_file()));
    EXPECT_TRUE(journal.end(second, {.outcome = Outcome::done, .patch = "learned"}));
    EXPECT_TRUE(journal.begin({.verb = "revert"}));
  }

  /// What verify() says once somebody has done this to the file.
  std::vector<std::string> after(const std::string& sql) const {
    SQLite::Database(file(), SQLite::OPEN_READWRITE).exec(sql);
    return open().verify().value().problems;
  }

  std::string exported() const {
    std::string text;
    EXPECT_TRUE(open().export_lines([&text](const std::string& line) {
      text += line + "\n";
      return true;
    }));
    return text;
  }
};

TEST_F(AuditTest, UntouchedJournalIsSound) {
  const Verification found = open().verify().value();
  EXPECT_THAT(found.problems, IsEmpty());
  EXPECT_EQ(found.entries, 8U);
}

TEST_F(AuditTest, ChangedEventIsFound) {
  EXPECT_THAT(after("UPDATE event SET detail = '{}' WHERE operation_id = 1 AND sequence = 2"),
              ElementsAre("entry 2 was changed: event 2 (step) of operation 1"));
}

TEST_F(AuditTest, ChangedTimeIsFound) {
  EXPECT_THAT(after("UPDATE event SET at = '2020' WHERE link = 3"),
              ElementsAre(HasSubstr("entry 3 was changed")));
}

TEST_F(AuditTest, RemovedEventIsFound) {
  EXPECT_THAT(after("DELETE FROM event WHERE link IN (2, 3)"),
              ElementsAre("entries 2 to 3 are missing"));
}

TEST_F(AuditTest, RemovedOperationIsFound) {
  EXPECT_THAT(after("DELETE FROM event WHERE operation_id = 1; DELETE FROM operation WHERE id = 1"),
              ElementsAre("entries 1 to 4 are missing"));
  EXPECT_THAT(after("PRAGMA foreign_keys = OFF; DELETE FROM operation WHERE id = 3"),
              Contains("operation 3 is missing, its entries are there"));
}

TEST_F(AuditTest, RemovedEndOfTheJournalIsFound) {
  EXPECT_THAT(after("DELETE FROM event WHERE operation_id = 3; DELETE FROM operation WHERE id = 3"),
              ElementsAre("entry 8 is missing at the end",
                          "the last operation is 2, and the last one begun was 3"));
}

TEST_F(AuditTest, RemovedEndOfTheJournalIsFoundWhenTheHeadIsSetBackToo) {
  EXPECT_THAT(after("DELETE FROM event WHERE operation_id = 3; DELETE FROM operation WHERE id = 3; "
                    "UPDATE chain_head SET links = 7, hash = (SELECT hash FROM event "
                    "WHERE link = 7)"),
              ElementsAre("the last operation is 2, and the last one begun was 3"));
}

TEST_F(AuditTest, TriggerOrViewIsFound) {
  EXPECT_THAT(after("CREATE TRIGGER silent BEFORE INSERT ON event BEGIN SELECT raise(IGNORE); END; "
                    "CREATE VIEW pretty AS SELECT * FROM event"),
              ElementsAre("a trigger was put in: \"silent\"", "a view was put in: \"pretty\""));
}

TEST_F(AuditTest, DamageOfTheFileIsFound) {
  EXPECT_THAT(after("PRAGMA ignore_check_constraints = ON; "
                    "UPDATE event SET detail = 'x' WHERE link = 2"),
              ElementsAre("the database is damaged: CHECK constraint failed in event",
                          HasSubstr("entry 2 was changed")));
}

TEST_F(AuditTest, ChangedColumnsOfAnOperationAreFound) {
  for (const char* column : {"user", "verb", "domain", "patch", "file_sha256", "boot_id",
                             "started_at", "ended_at", "outcome", "summary"}) {
    SQLite::Database database(file(), SQLite::OPEN_READWRITE);
    const std::string old =
        database.execAndGet(std::string("SELECT ") + column + " FROM operation WHERE id = 1")
            .getString();
    EXPECT_THAT(after(std::string("UPDATE operation SET ") + column + " = 'x' WHERE id = 1"),
                ElementsAre(std::string("operation 1: its ") + column + " was changed"));
    SQLite::Statement back(database,
                           std::string("UPDATE operation SET ") + column + " = ? WHERE id = 1");
    back.bind(1, old);
    back.exec();
  }
  EXPECT_THAT(open().verify().value().problems, IsEmpty());
  EXPECT_THAT(after("UPDATE operation SET pause_us = 1, exit_code = 0 WHERE id = 1"),
              testing::UnorderedElementsAre("operation 1: its pause_us was changed",
                                            "operation 1: its exit_code was changed"));
}

TEST_F(AuditTest, OperationPutInIsFound) {
  EXPECT_THAT(after("INSERT INTO operation (started_at, verb, domain, identity, patch, "
                    "file_sha256, patch_build_id, user, vpatch_version, guest_release, boot_id) "
                    "VALUES ('', '', '', '', '', '', '', '', '', '', '')"),
              ElementsAre("operation 4 has no entry in the chain"));
}

TEST_F(AuditTest, ChangedRegistrationIsFound) {
  EXPECT_THAT(after("UPDATE registration SET file_sha256 = 'x'"),
              ElementsAre(HasSubstr("is not the one that was recorded")));
  EXPECT_THAT(after("DELETE FROM registration"), ElementsAre(HasSubstr("is missing")));
}

TEST_F(AuditTest, ExchangedRegistrationsAreFound) {
  {
    Journal journal = open();
    const OperationId id = journal.begin({.verb = "apply"}).value();
    Registration later = some_registration();
    later.patch = "later";
    ASSERT_TRUE(journal.register_patch(id, later, some_file()));
    ASSERT_TRUE(journal.register_patch(id, some_registration(), some_file())) << "again";
    Registration elsewhere = some_registration();
    elsewhere.identity = "another";
    ASSERT_TRUE(journal.register_patch(id, elsewhere, some_file()));
  }
  EXPECT_THAT(open().verify().value().problems, IsEmpty());
  EXPECT_THAT(after("UPDATE registration SET id = 9 WHERE id = 1"),
              ElementsAre(R"(the registration of "fix_pipe" for "web01" is not in its place)"));
}

TEST_F(AuditTest, DetailThatIsTooLongLeavesItsSizeAndASoundExport) {
  {
    Journal journal = open();
    const OperationId id = journal.begin({.verb = "apply"}).value();
    ASSERT_TRUE(journal.event(id, "step", {{"text", std::string(kMaxDetail, 'x')}}));
    const auto events = journal.events(id).value();
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(
        boost::json::serialize(events[1].detail),
        "{\"too_long\":" + std::to_string(kMaxDetail + std::string(R"({"text":""})").size()) + "}");
  }
  std::istringstream lines(exported());
  EXPECT_THAT(verify_export(lines).problems, IsEmpty());
}

TEST_F(AuditTest, ChangedHeadIsFound) {
  EXPECT_THAT(after("UPDATE chain_head SET links = 3"),
              ElementsAre("the chain's head does not fit its last entry"));
  EXPECT_THAT(after("DELETE FROM chain_head"), ElementsAre("the chain's head is missing"));
}

TEST_F(AuditTest, ExportIsSound) {
  std::istringstream lines(exported());
  const Verification found = verify_export(lines);
  EXPECT_THAT(found.problems, IsEmpty());
  EXPECT_EQ(found.entries, 8U);
  EXPECT_EQ(found.head, open().verify().value().head);
}

TEST_F(AuditTest, ExportOfAChangedJournalShowsTheChange) {
  after("UPDATE event SET detail = '{\"text\":\n\"x\"}' WHERE link = 2");
  std::istringstream changed(exported());
  EXPECT_THAT(verify_export(changed).problems, ElementsAre("entry 2 was changed"));
  after("DELETE FROM event WHERE link = 8");
  std::istringstream shorter(exported());
  EXPECT_THAT(verify_export(shorter).problems,
              ElementsAre("entry 2 was changed", "entry 8 is missing at the end"));
}

TEST_F(AuditTest, ExportEndsWhenNobodyTakesIt) {
  int taken = 0;
  EXPECT_TRUE(open().export_lines([&taken](const std::string&) { return ++taken < 3; }));
  EXPECT_EQ(taken, 3);
}

TEST_F(AuditTest, HostileTextIsSound) {
  const std::string hostile = "'); DROP TABLE operation; --\"\\\n\x1b[2J\xff\xfe end";
  {
    Journal journal = open();
    OperationStart start = some_start();
    start.domain = hostile;
    const OperationId id = journal.begin(start).value();
    ASSERT_TRUE(journal.event(id, hostile, {{hostile, hostile}}));
    ASSERT_TRUE(journal.end(id, {.outcome = Outcome::done, .summary = hostile}));
  }
  EXPECT_THAT(open().verify().value().problems, IsEmpty());
  std::istringstream lines(exported());
  EXPECT_THAT(verify_export(lines).problems, IsEmpty());
}

/// A journal as the first version wrote it.
TEST_F(JournalTest, JournalOfTheFirstVersionIsChained) {
  std::filesystem::create_directory(file().parent_path());
  {
    SQLite::Database database(file(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    ASSERT_TRUE(migrate(database, journal_migrations().first(1)));
    const std::string columns =
        "(started_at, verb, domain, identity, patch, file_sha256, patch_build_id, user, "
        "vpatch_version, guest_release, boot_id";
    database.exec("INSERT INTO operation " + columns +
                  ", ended_at, outcome, exit_code, summary, pauses, retries, signals, switches) "
                  "VALUES ('2026-01', 'apply', 'd', 'i', 'p', 's', 'b', 'u', 'v', 'g', 'o', "
                  "'2026-02', 'done', 0, 'fine', 0, 1, 2, 3)");
    database.exec("INSERT INTO operation " + columns +
                  ") VALUES ('2026-03', 'revert', 'd', 'i', 'p', 's', 'b', 'u', 'v', 'g', 'o')");
    database.exec("INSERT INTO event VALUES (1, 1, '2026-01', 'pause', '{\"us\":3700}')");
  }
  Journal journal = open();
  EXPECT_THAT(journal.verify().value().problems, IsEmpty());
  EXPECT_EQ(journal.verify().value().entries, 4U);
  const auto events = journal.events(OperationId{1}).value();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].kind, "begin");
  EXPECT_EQ(events[1].kind, "pause");
  EXPECT_EQ(events[1].detail.at("us"), 3700);
  EXPECT_EQ(events[2].kind, "end");
  ASSERT_TRUE(journal.end(OperationId{2}, some_end()));
  EXPECT_THAT(journal.verify().value().problems, IsEmpty());
}

}  // namespace
}  // namespace vpatch
