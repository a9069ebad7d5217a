// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/journal.h"

#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr const char* kTime = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z";

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status{};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777U;
}

TEST_F(JournalTest, GivesBackWhatItWasTold) {
  {
    Journal journal = open();
    const OperationId id = journal.begin(some_start()).value();
    ASSERT_TRUE(journal.event(id, "retry", {{"cpu", 1}}));
    ASSERT_TRUE(journal.event(id, "pause", {{"us", 3700}, {"stack", {"a+0x1", "b+0x2"}}}));
    ASSERT_TRUE(journal.end(id, some_end()));
  }
  Journal journal = open();
  const auto operations = journal.operations({.limit = 10}).value();
  ASSERT_EQ(operations.size(), 1U);
  const StoredOperation& operation = operations.front();
  EXPECT_EQ(operation.start, some_start());
  EXPECT_EQ(operation.end, some_end());
  EXPECT_THAT(operation.started_at, MatchesRegex(kTime));
  EXPECT_THAT(operation.ended_at, MatchesRegex(kTime));
  EXPECT_LE(operation.started_at, operation.ended_at);
  const auto events = journal.events(operation.id).value();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].kind, "begin");
  EXPECT_EQ(events[0].at, operation.started_at);
  EXPECT_EQ(events[0].detail.at("patch_version"), "1.2");
  EXPECT_EQ(events[1].sequence, 2);
  EXPECT_EQ(events[1].kind, "retry");
  EXPECT_EQ(events[1].detail, (boost::json::object{{"cpu", 1}}));
  EXPECT_THAT(events[1].at, MatchesRegex(kTime));
  EXPECT_EQ(events[2].sequence, 3);
  EXPECT_EQ(events[2].kind, "pause");
  EXPECT_EQ(events[2].detail.at("stack").as_array().size(), 2U);
  EXPECT_EQ(events[3].kind, "end");
  EXPECT_EQ(events[3].at, operation.ended_at);
  EXPECT_EQ(events[3].detail.at("switches"), 4);
}

TEST_F(JournalTest, KeepsOutcomeWordAndExitCode) {
  Journal journal = open();
  for (const Outcome outcome :
       {Outcome::done, Outcome::usage, Outcome::refused, Outcome::stalled_reverted,
        Outcome::stalled_waiting, Outcome::unreachable, Outcome::failed_restored,
        Outcome::failed_needs_look, Outcome::internal}) {
    ASSERT_TRUE(journal.end(journal.begin({}).value(), {.outcome = outcome}));
    EXPECT_EQ(journal.operations({.limit = 1}).value().front().end->outcome, outcome);
    const SQLite::Database raw(file());
    SQLite::Statement row(raw, "SELECT outcome, exit_code FROM operation ORDER BY id DESC");
    ASSERT_TRUE(row.executeStep());
    EXPECT_EQ(row.getColumn(0).getString(), to_string(outcome));
    EXPECT_EQ(row.getColumn(1).getInt(), static_cast<int>(outcome));
  }
}

TEST_F(JournalTest, ShowsTheNewestFirst) {
  Journal journal = open();
  for (const char* verb : {"apply", "revert", "force"}) {
    ASSERT_TRUE(journal.begin({.verb = verb}));
  }
  std::vector<std::string> verbs;
  const auto newest = journal.operations({.limit = 2}).value();
  for (const auto& operation : newest) {
    verbs.push_back(operation.start.verb);
  }
  EXPECT_THAT(verbs, ElementsAre("force", "revert"));
  EXPECT_EQ(journal.operations({.limit = std::numeric_limits<std::size_t>::max()}).value().size(),
            3U);
  EXPECT_EQ(journal.operations({.limit = 0}).value().size(), 0U);
}

TEST_F(JournalTest, ShowsWhatIsAskedFor) {
  Journal journal = open();
  const auto record = [&journal](OperationStart start, std::optional<Outcome> outcome) {
    const OperationId id = journal.begin(start).value();
    EXPECT_TRUE(!outcome || journal.end(id, {.outcome = *outcome}));
    return journal.operations({.limit = 1}).value().front().started_at;
  };
  record({.verb = "apply", .domain = "web01", .identity = "i1", .patch = "p"}, Outcome::done);
  const std::string at =
      record({.verb = "apply", .domain = "web02", .patch = "q"}, Outcome::refused);
  record({.verb = "revert", .domain = "web01", .patch = "q"}, std::nullopt);
  const auto ids = [&journal](const OperationFilter& filter) {
    std::vector<int> list;
    const auto found = journal.operations(filter).value();
    for (const StoredOperation& operation : found) {
      list.push_back(static_cast<int>(operation.id));
    }
    return list;
  };
  EXPECT_THAT(ids({}), ElementsAre(3, 2, 1));
  EXPECT_THAT(ids({.id = OperationId{2}}), ElementsAre(2));
  EXPECT_THAT(ids({.domain = "web01"}), ElementsAre(3, 1));
  EXPECT_THAT(ids({.domain = "i1"}), ElementsAre(1));
  EXPECT_THAT(ids({.patch = "q"}), ElementsAre(3, 2));
  EXPECT_THAT(ids({.verb = "apply"}), ElementsAre(2, 1));
  EXPECT_THAT(ids({.outcome = Outcome::refused}), ElementsAre(2));
  EXPECT_THAT(ids({.failed = true}), ElementsAre(3, 2));
  EXPECT_THAT(ids({.since = at}), ElementsAre(3, 2));
  EXPECT_THAT(ids({.until = at}), ElementsAre(1));
  EXPECT_THAT(ids({.patch = "q", .verb = "apply", .limit = 5}), ElementsAre(2));
  EXPECT_THAT(ids({.id = OperationId{9}}), ElementsAre());
}

TEST_F(JournalTest, AnOperationWhoseProcessDiedStaysUnfinished) {
  ASSERT_EQ(in_child([this] {
              Journal journal = open();
              const auto id = journal.begin(some_start());
              return id && journal.event(*id, "pause", {}) ? std::string("wrote") : "failed";
              // _exit(): nothing is closed in order
            }),
            "wrote");
  Journal journal = open();
  ASSERT_TRUE(journal.begin({.verb = "revert"}));
  const auto operations = journal.operations({.limit = 10}).value();
  ASSERT_EQ(operations.size(), 2U);
  EXPECT_EQ(operations[1].start, some_start());
  EXPECT_FALSE(operations[1].end.has_value());
  EXPECT_EQ(operations[1].ended_at, "");
  EXPECT_EQ(journal.events(operations[1].id).value().size(), 2U);
}

TEST_F(JournalTest, LearnsWhatWasNotKnownAtTheBegin) {
  Journal journal = open();
  const OperationId id = journal.begin({.verb = "revert", .patch = "fix"}).value();
  ASSERT_TRUE(journal.end(id, {.outcome = Outcome::done, .guest_release = "6.12", .boot_id = "b"}));
  const StoredOperation operation = journal.operations({.limit = 1}).value().front();
  EXPECT_EQ(operation.start.patch, "fix") << "an empty text takes nothing back";
  EXPECT_EQ(operation.start.guest_release, "6.12");
  EXPECT_EQ(operation.start.boot_id, "b");
  EXPECT_EQ(operation.end->transition_us, std::nullopt);
  EXPECT_EQ(operation.end->pause_us, std::nullopt);
}

TEST_F(JournalTest, AnOperationEndsOnce) {
  Journal journal = open();
  const OperationId id = journal.begin(some_start()).value();
  ASSERT_TRUE(journal.end(id, some_end()));
  const auto again = journal.end(id, {.outcome = Outcome::done});
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().what, HasSubstr("operation 1 is not under way"));
  EXPECT_EQ(journal.operations({.limit = 1}).value().front().end, some_end());
}

TEST_F(JournalTest, RefusesWhatBelongsToNoOperation) {
  Journal journal = open();
  EXPECT_FALSE(journal.event(OperationId{7}, "pause", {}));
  EXPECT_FALSE(journal.end(OperationId{7}, some_end()));
  EXPECT_EQ(journal.events(OperationId{7}).value().size(), 0U);
}

TEST_F(JournalTest, TwoConnectionsSeeEachOther) {
  Journal one = open();
  Journal other = open();
  const OperationId first = one.begin(some_start()).value();
  const OperationId second = other.begin(some_start()).value();
  EXPECT_NE(first, second);
  ASSERT_TRUE(one.event(first, "a", {}));
  ASSERT_TRUE(other.event(first, "b", {}));
  EXPECT_EQ(one.events(first).value().size(), 3U);
  EXPECT_EQ(other.operations({.limit = 10}).value().size(), 2U);
}

TEST_F(JournalTest, ProcessesBeginAndWriteItAtOnce) {
  constexpr int kProcesses = 6;
  constexpr int kOperations = 20;
  std::vector<InChild> writers;
  for (int i = 0; i < kProcesses; ++i) {
    writers.emplace_back([this] {
      auto journal = Journal::open(file(), std::chrono::seconds(60));
      if (!journal) {
        return journal.error().what;
      }
      for (int j = 0; j < kOperations; ++j) {
        const auto id = journal->begin(some_start());
        if (!id || !journal->event(*id, "one", {}) || !journal->event(*id, "two", {}) ||
            !journal->end(*id, some_end())) {
          return std::string("failed");
        }
      }
      return std::string("wrote");
    });
  }
  for (InChild& writer : writers) {
    EXPECT_EQ(writer.wait(), "wrote");
  }
  Journal journal = open();
  const auto operations = journal.operations({.limit = 1000}).value();
  ASSERT_EQ(operations.size(), std::size_t{kProcesses} * kOperations);
  for (const auto& operation : operations) {
    EXPECT_TRUE(operation.end.has_value());
    EXPECT_EQ(journal.events(operation.id).value().size(), 4U);
  }
  EXPECT_TRUE(journal.verify().value().sound());
}

TEST_F(JournalTest, HostileTextIsOnlyText) {
  const std::string hostile = "'); DROP TABLE operation; --\"\\\n\x1b[2J\0\xff\xfe end"s;
  Journal journal = open();
  OperationStart start = some_start();
  start.domain = start.patch = start.boot_id = hostile;
  const OperationId id = journal.begin(start).value();
  ASSERT_TRUE(journal.event(id, hostile, {{hostile, hostile}}));
  OperationEnd end = some_end();
  end.summary = hostile + std::string(100'000, 'x');
  ASSERT_TRUE(journal.end(id, end));
  const StoredOperation operation = journal.operations({.limit = 10}).value().front();
  EXPECT_EQ(operation.start, start);
  EXPECT_EQ(operation.end, end);
  const StoredEvent event = journal.events(id).value().at(1);
  EXPECT_EQ(event.kind, hostile);
  EXPECT_EQ(event.detail.at(hostile).as_string(), hostile);
}

TEST_F(JournalTest, NumbersTooBigForAColumnAreCut) {
  Journal journal = open();
  const auto most = std::numeric_limits<std::uint64_t>::max();
  ASSERT_TRUE(journal.end(journal.begin({}).value(), {.transition_us = most, .pauses = most}));
  const OperationEnd end = *journal.operations({.limit = 1}).value().front().end;
  EXPECT_EQ(end.transition_us, most / 2);
  EXPECT_EQ(end.pauses, most / 2);
}

TEST_F(JournalTest, IsForItsOwnerOnly) {
  Journal journal = open();
  ASSERT_TRUE(journal.begin(some_start()));
  EXPECT_EQ(mode_of(file().parent_path()), 0700U);
  for (const char* suffix : {"", "-wal", "-shm"}) {
    EXPECT_EQ(mode_of(file().string() + suffix), 0600U) << suffix;
  }
}

TEST_F(JournalTest, NamesTheRealUser) {
  const auto user_with = [this](const char* sudo_user) {
    return in_child([this, sudo_user] {
      setenv("SUDO_USER", sudo_user, 1);
      Journal journal = open();
      return journal.begin({}) ? journal.operations({.limit = 1}).value().front().user : "failed";
    });
  };
  const passwd* const self = getpwuid(getuid());
  const std::string name = self != nullptr ? self->pw_name : "uid " + std::to_string(getuid());
  EXPECT_EQ(user_with(""), name);
  EXPECT_EQ(user_with("alice"), getuid() == 0 ? "alice" : name);
}

TEST(JournalPath, IsTheOneOfTheEnvironmentOrTheDefault) {
  const auto path_with = [](const char* value) {
    return in_child([value] {
      value == nullptr ? unsetenv("VPATCH_JOURNAL") : setenv("VPATCH_JOURNAL", value, 1);
      return Journal::path().string();
    });
  };
  EXPECT_EQ(path_with(nullptr), "/var/lib/vpatch/journal.db");
  EXPECT_EQ(path_with(""), "/var/lib/vpatch/journal.db");
  EXPECT_EQ(path_with("/elsewhere/j"), "/elsewhere/j");
}

}  // namespace
}  // namespace vpatch
