// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/recorder.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class KeptReporter final : public Reporter {
 public:
  void step(std::string_view text) override { steps.emplace_back(text); }
  void progress(std::string_view /*text*/) override {}
  void warning(std::string_view text) override { warnings.emplace_back(text); }

  std::vector<std::string> steps;
  std::vector<std::string> warnings;
};

/// A recorder whose journal is in the test's folder.
class RecorderTest : public JournalTest {
 public:
  ~RecorderTest() override { unsetenv("VPATCH_JOURNAL"); }

 protected:
  RecorderTest() {
    setenv("VPATCH_JOURNAL", file().c_str(), 1);
    report_.conclude(Outcome::done, "fine");
    report_.patch = "p";
    report_.boot_id = "b";
  }

  std::vector<std::string> kinds() const {
    std::vector<std::string> list;
    Journal journal = open();
    const auto found = journal.events(OperationId{1}).value();
    for (const StoredEvent& event : found) {
      list.push_back(event.kind);
    }
    return list;
  }

  /// All of an operation but its begin.
  void work() {
    recorder_.step("delivered");
    recorder_.record("load", {{"boot_id", "b"}});
    recorder_.end(report_, "6.1");
  }

  KeptReporter reporter_;
  Recorder recorder_{reporter_};
  Report report_;
};

TEST_F(RecorderTest, RecordsEveryStepAndWarning) {
  report_.findings = {{Severity::warning, "would-block", "dd would block it", ""}};
  report_.replaced = {"old"};
  report_.kernel_log = {"livepatch: hello"};
  report_.blockers = {1, {{.tid = 42, .name = "dd"}}};
  report_.transition.emplace().pauses = 2;
  recorder_.begin(some_start());
  recorder_.warning("careful");
  work();
  EXPECT_THAT(kinds(), ElementsAre("begin", "warning", "step", "load", "finding", "blockers",
                                   "waited-for", "modules", "kernel-log", "end"));
  EXPECT_THAT(reporter_.steps, ElementsAre("delivered"));
  EXPECT_THAT(reporter_.warnings, ElementsAre("careful"));
  EXPECT_FALSE(recorder_.failure());
  const StoredOperation operation = open().operations({}).value().front();
  EXPECT_EQ(operation.start.boot_id, "b");
  EXPECT_EQ(operation.end->pauses, 2U);
  EXPECT_TRUE(open().verify().value().sound());
}

TEST_F(RecorderTest, NothingBegunIsNothingMissed) {
  work();
  EXPECT_FALSE(recorder_.failure());
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(RecorderTest, JournalThatCannotBeOpenedIsToldOfOnce) {
  std::ofstream(file().parent_path()) << "a file where the folder should be";
  recorder_.begin(some_start());
  EXPECT_FALSE(recorder_.register_patch(some_registration(), some_file()));
  EXPECT_FALSE(recorder_.unregister_patch("i", "p"));
  EXPECT_THAT(recorder_.registrations("i"), IsEmpty());
  work();
  EXPECT_THAT(reporter_.warnings, ElementsAre(HasSubstr("not all of this is written in the")));
  EXPECT_THAT(reporter_.steps, ElementsAre("delivered")) << "the work goes on";
  EXPECT_TRUE(recorder_.failure());
}

TEST_F(RecorderTest, JournalLockedForAWhileGetsItsEndAtLeast) {
  recorder_.begin(some_start());
  SQLite::Database other(file(), SQLite::OPEN_READWRITE);
  other.exec("BEGIN IMMEDIATE");
  recorder_.step("delivered");
  recorder_.step("not tried again");
  other.exec("ROLLBACK");
  recorder_.end(report_, "6.1");
  EXPECT_THAT(kinds(), ElementsAre("begin", "events-lost", "end"));
  ASSERT_TRUE(recorder_.failure());
  EXPECT_THAT(recorder_.failure()->what, HasSubstr("locked"));
  EXPECT_EQ(reporter_.warnings.size(), 1U);
}

TEST_F(RecorderTest, JournalThatStaysLockedIsToldOfOnce) {
  recorder_.begin(some_start());
  SQLite::Database other(file(), SQLite::OPEN_READWRITE);
  other.exec("BEGIN IMMEDIATE");
  work();
  EXPECT_THAT(reporter_.warnings, ElementsAre(HasSubstr("locked")));
  EXPECT_TRUE(recorder_.failure());
}

TEST_F(RecorderTest, JournalRemovedInTheMiddleIsToldOfOnce) {
  recorder_.begin(some_start());
  std::filesystem::remove_all(file().parent_path());
  work();
  EXPECT_THAT(reporter_.warnings, ElementsAre(HasSubstr("removed")));
  EXPECT_TRUE(recorder_.failure());
}

TEST_F(RecorderTest, JournalDamagedInTheMiddleIsToldOfOnce) {
  recorder_.begin(some_start());
  {
    Journal journal = open();  // a second connection, so that pages are read again
    ASSERT_TRUE(journal.begin(some_start()));
  }
  SQLite::Database(file(), SQLite::OPEN_READWRITE).exec("PRAGMA wal_checkpoint(TRUNCATE)");
  {
    std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(4096);
    stream << std::string(std::filesystem::file_size(file()) - 4096, '\xa5');
  }
  // Whoever writes next finds other pages in the file than it has in its memory.
  SQLite::Database(file(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 3");
  work();
  EXPECT_THAT(reporter_.warnings, ElementsAre(HasSubstr("malformed")));
  EXPECT_TRUE(recorder_.failure());
}

TEST_F(RecorderTest, FullDiskIsToldOfOnce) {
  EXPECT_EQ(in_child([this]() -> std::string {
              recorder_.begin(some_start());
              std::signal(SIGXFSZ, SIG_IGN);
              const rlimit small{.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
              setrlimit(RLIMIT_FSIZE, &small);
              const bool registered = recorder_.register_patch(some_registration(), some_file());
              work();
              return std::to_string(reporter_.warnings.size()) + " warning, " +
                     (recorder_.failure() ? "failure" : "no failure") +
                     (registered ? ", registered" : "");
            }),
            "1 warning, failure");
}

TEST_F(RecorderTest, ReadOnlyJournalIsToldOfOnce) {
  recorder_.begin(some_start());
  SQLite::Database(file(), SQLite::OPEN_READWRITE).exec("UPDATE chain_head SET links = 1");
  EXPECT_EQ(in_child([this]() -> std::string {
              std::filesystem::permissions(file().parent_path(), std::filesystem::perms::all);
              std::filesystem::permissions(folder(), std::filesystem::perms::all);
              std::filesystem::permissions(file(), std::filesystem::perms(0444));
              if (setuid(65534) != 0 && getuid() == 0) {
                return "no other user";
              }
              KeptReporter reporter;
              Recorder recorder(reporter);
              recorder.begin(some_start());
              recorder.step("delivered");
              recorder.end(report_, "6.1");
              return std::to_string(reporter.warnings.size()) + " warning, " +
                     (recorder.failure() ? "failure" : "no failure");
            }),
            "1 warning, failure");
}

}  // namespace
}  // namespace vpatch
