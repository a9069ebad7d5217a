// SPDX-License-Identifier: Apache-2.0
// What may be wrong with the file, its folder and its disk.
#include <csignal>
#include <fstream>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

template <class T>
std::string told(const Result<T>& result) {
  return result ? "no error" : result.error().what + "\n" + result.error().hint;
}

/// In a child: gives up root's power over files, and makes a folder with `mode`.
std::string private_folder(mode_t mode) {
  constexpr uid_t kNobody = 65534;
  std::string name = "/tmp/vpatch-journal-XXXXXX";
  if ((getuid() == 0 && setuid(kNobody) != 0) || mkdtemp(name.data()) == nullptr ||
      chmod(name.c_str(), mode) != 0) {
    return "/nowhere";
  }
  return name;
}

TEST_F(JournalTest, FolderThatMayNotBeWrittenIsAnError) {
  EXPECT_THAT(in_child([] {
                const std::string folder = private_folder(0500);
                std::string text = told(Journal::open(folder + "/journal.db"));
                text += "\n" + told(Journal::open(folder + "/state/journal.db"));
                rmdir(folder.c_str());
                return text;
              }),
              AllOf(HasSubstr("/journal.db: open it: create /tmp/vpatch-journal-"),
                    HasSubstr("/state: Permission denied"), HasSubstr("VPATCH_JOURNAL")));
}

TEST_F(JournalTest, FileThatMayNotBeWrittenIsAnError) {
  EXPECT_THAT(in_child([] {
                const std::string folder = private_folder(0700);
                const std::string path = folder + "/journal.db";
                static_cast<void>(Journal::open(path));
                chmod(path.c_str(), 0400);
                auto journal = Journal::open(path);
                const std::string text = journal ? told(journal->begin({})) : told(journal);
                std::filesystem::remove_all(folder);
                return text;
              }),
              AllOf(StartsWith("journal /tmp/vpatch-journal-"), HasSubstr("readonly"),
                    HasSubstr("VPATCH_JOURNAL")));
}

TEST_F(JournalTest, FolderInAFileIsAnError) {
  std::ofstream(folder() / "plain") << "text";
  const auto journal = Journal::open(folder() / "plain" / "journal.db");
  EXPECT_THAT(told(journal), HasSubstr("Not a directory"));
}

TEST_F(JournalTest, FileThatIsNoDatabaseIsAnErrorAndStaysAsItIs) {
  const std::string text(8192, '?');
  std::filesystem::create_directory(file().parent_path());
  std::ofstream(file()) << text;
  EXPECT_THAT(told(Journal::open(file())),
              AllOf(HasSubstr("not a database"), HasSubstr("Move the file away")));
  std::ifstream stream(file());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stream), {}), text);
}

TEST_F(JournalTest, DamagedPagesAreAnError) {
  {
    ASSERT_TRUE(open().begin(some_start()));
  }
  const int page = SQLite::Database(file())
                       .execAndGet("SELECT rootpage FROM sqlite_schema WHERE name = 'operation'")
                       .getInt();
  {
    std::fstream stream(file(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(4096 * (page - 1));
    stream << std::string(4096, '\xa5');
  }
  Journal journal = open();
  const auto id = journal.begin(some_start());
  EXPECT_THAT(told(id), AllOf(HasSubstr("begin an operation"), HasSubstr("malformed"),
                              HasSubstr("Move the file away")));
  EXPECT_FALSE(journal.operations({.limit = 1}));
}

TEST_F(JournalTest, AnEventThatSomebodyChangedIsAnError) {
  Journal journal = open();
  const OperationId id = journal.begin(some_start()).value();
  ASSERT_TRUE(journal.event(id, "pause", {}));
  SQLite::Database(file(), SQLite::OPEN_READWRITE).exec("UPDATE event SET detail = '[1]'");
  EXPECT_THAT(told(journal.events(id)), HasSubstr("event 1 of operation 1 is not an object"));
}

TEST_F(JournalTest, RemovedWhileItIsInUseIsAnError) {
  Journal journal = open();
  const OperationId id = journal.begin(some_start()).value();
  std::filesystem::remove(file());
  EXPECT_THAT(told(journal.event(id, "step", {})),
              AllOf(HasSubstr("removed or moved away"), HasSubstr("begins a new one")));
  EXPECT_THAT(told(journal.end(id, some_end())), HasSubstr("removed or moved away"));
}

TEST_F(JournalTest, ReplacedWhileItIsInUseIsAnError) {
  Journal journal = open();
  const OperationId id = journal.begin(some_start()).value();
  std::filesystem::rename(file(), folder() / "elsewhere");
  std::ofstream(file()) << "";
  EXPECT_THAT(told(journal.end(id, some_end())), HasSubstr("removed or moved away"));
}

TEST_F(JournalTest, OfANewerVpatchIsRefused) {
  {
    ASSERT_TRUE(open().begin(some_start()));
  }
  SQLite::Database(file(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 1000");
  EXPECT_THAT(told(Journal::open(file())), AllOf(HasSubstr("version 1000"), HasSubstr("Update")));
}

TEST_F(JournalTest, HeldBySomebodyElseIsAnErrorUntilThatEnds) {
  Journal journal = open(milliseconds(50));
  SQLite::Database other(file(), SQLite::OPEN_READWRITE);
  other.exec("BEGIN IMMEDIATE");
  EXPECT_THAT(told(journal.begin(some_start())),
              AllOf(HasSubstr("database is locked"), HasSubstr("Another program holds it")));
  EXPECT_TRUE(journal.operations({.limit = 10})) << "reading goes on";
  other.exec("ROLLBACK");
  EXPECT_TRUE(journal.begin(some_start()));
}

TEST_F(JournalTest, HeldWhileItIsMadeIsAnError) {
  std::filesystem::create_directory(file().parent_path());
  SQLite::Database other(file(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  other.exec("BEGIN EXCLUSIVE");
  EXPECT_THAT(told(Journal::open(file(), milliseconds(50))), HasSubstr("database is locked"));
  other.exec("ROLLBACK");
  EXPECT_TRUE(Journal::open(file()));
}

/// Records operations until one fails: what that said.
std::string fill(Journal& journal) {
  OperationStart start = some_start();
  start.domain = std::string(20'000, 'x');
  for (int i = 0; i < 1000; ++i) {
    if (const auto id = journal.begin(start); !id) {
      return told(id);
    }
  }
  return "no error";
}

TEST_F(JournalTest, FileThatMayNotGrowIsAnErrorUntilItMay) {
  EXPECT_THAT(in_child([this] {
                Journal journal = open();
                std::signal(SIGXFSZ, SIG_IGN);
                rlimit limit{};
                getrlimit(RLIMIT_FSIZE, &limit);
                const rlimit small{.rlim_cur = 200'000, .rlim_max = limit.rlim_max};
                setrlimit(RLIMIT_FSIZE, &small);
                std::string text = fill(journal);
                setrlimit(RLIMIT_FSIZE, &limit);
                return text + "\n" + told(journal.begin(some_start()));
              }),
              AllOf(HasSubstr("begin an operation: "), HasSubstr("disk I/O error"),
                    HasSubstr("Make room"), testing::EndsWith("\nno error")));
}

TEST_F(JournalTest, FullDiskIsAnErrorUntilThereIsRoom) {
  const std::string text = in_child([this]() -> std::string {
    const int apart = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (unshare(apart) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", folder().c_str(), "tmpfs", 0, "size=400k") != 0) {
      return "no mount";
    }
    Journal journal = open();
    const auto ballast = folder() / "ballast";
    std::ofstream(ballast) << std::string(100'000, 'x');
    std::string said = fill(journal);
    std::filesystem::remove(ballast);
    return said + "\n" + told(journal.begin(some_start()));
  });
  if (text == "no mount") {
    GTEST_SKIP() << "this user may not mount a file system of its own";
  }
  EXPECT_THAT(text, AllOf(HasSubstr("begin an operation: "), HasSubstr("full"),
                          HasSubstr("Make room"), testing::EndsWith("\nno error")));
}

}  // namespace
}  // namespace vpatch
