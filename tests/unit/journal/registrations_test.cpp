// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/journal/journal_support.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> names(Journal& journal, const RegistrationFilter& filter = {}) {
  std::vector<std::string> list;
  const auto found = journal.registrations(filter).value();
  for (const Registration& registration : found) {
    list.push_back(registration.patch);
  }
  return list;
}

Registration named(const std::string& patch) {
  Registration registration = some_registration();
  registration.patch = patch;
  return registration;
}

class RegistrationsTest : public JournalTest {
 protected:
  Journal journal_ = open();
  OperationId operation_ = journal_.begin(some_start()).value();
};

TEST_F(RegistrationsTest, AreGivenBack) {
  ASSERT_TRUE(journal_.register_patch(operation_, some_registration(), some_file()));
  EXPECT_THAT(journal_.registrations({}).value(), ElementsAre(some_registration()));
}

TEST_F(RegistrationsTest, KeepACopyOfTheFileForTheirOwnerOnly) {
  ASSERT_TRUE(journal_.register_patch(operation_, some_registration(), some_file()));
  const auto copy = journal_.copy_of(some_registration().file_sha256);
  EXPECT_EQ(copy.parent_path(), folder() / "state" / "patches");
  std::ifstream stream(copy, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(text)), some_file()));
  struct stat status{};
  ASSERT_EQ(stat(copy.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(copy.parent_path()), {}), 1)
      << "no draft is left";
}

TEST_F(RegistrationsTest, OfTheSameNameAreOneThatKeepsItsPlace) {
  ASSERT_TRUE(journal_.register_patch(operation_, named("base"), some_file()));
  ASSERT_TRUE(journal_.register_patch(operation_, named("fix"), some_file()));
  Registration rebuilt = named("base");
  rebuilt.file_sha256 = std::string(64, 'd');
  ASSERT_TRUE(journal_.register_patch(operation_, rebuilt, some_file()));
  EXPECT_THAT(names(journal_), ElementsAre("base", "fix"));
  EXPECT_EQ(journal_.registrations({}).value().front(), rebuilt);
}

TEST_F(RegistrationsTest, AreFoundByDomainAndConnection) {
  Registration other = named("other");
  other.identity = "another";
  other.connection = "qemu:///session";
  ASSERT_TRUE(journal_.register_patch(operation_, some_registration(), some_file()));
  ASSERT_TRUE(journal_.register_patch(operation_, other, some_file()));
  EXPECT_THAT(names(journal_, {.identity = "another", .connection = {}}), ElementsAre("other"));
  EXPECT_THAT(names(journal_, {.identity = {}, .connection = "qemu:///system"}),
              ElementsAre(some_registration().patch));
}

TEST_F(RegistrationsTest, CopyGoesWithTheLastThatNeedsIt) {
  ASSERT_TRUE(journal_.register_patch(operation_, named("one"), some_file()));
  ASSERT_TRUE(journal_.register_patch(operation_, named("two"), some_file()));
  const auto copy = journal_.copy_of(some_registration().file_sha256);
  const std::string identity = some_registration().identity;
  EXPECT_TRUE(journal_.unregister_patch(operation_, identity, "one").value());
  EXPECT_TRUE(std::filesystem::exists(copy));
  EXPECT_TRUE(journal_.unregister_patch(operation_, identity, "two").value());
  EXPECT_FALSE(std::filesystem::exists(copy));
  EXPECT_FALSE(journal_.unregister_patch(operation_, identity, "two").value()) << "again";
  EXPECT_THAT(names(journal_), IsEmpty());
  EXPECT_THAT(journal_.verify().value().problems, IsEmpty());
}

TEST_F(RegistrationsTest, CopyThatWasReplacedGoesWhenNobodyElseNeedsIt) {
  Registration rebuilt = named("one");
  rebuilt.file_sha256 = std::string(64, 'd');
  const auto copy = journal_.copy_of(some_registration().file_sha256);
  ASSERT_TRUE(journal_.register_patch(operation_, named("one"), some_file()));
  ASSERT_TRUE(journal_.register_patch(operation_, named("two"), some_file()));
  ASSERT_TRUE(journal_.register_patch(operation_, rebuilt, some_file()));
  EXPECT_TRUE(std::filesystem::exists(copy)) << "of two";
  rebuilt.patch = "two";
  ASSERT_TRUE(journal_.register_patch(operation_, rebuilt, some_file()));
  EXPECT_FALSE(std::filesystem::exists(copy));
  ASSERT_TRUE(journal_.register_patch(operation_, rebuilt, some_file()));
  EXPECT_TRUE(std::filesystem::exists(journal_.copy_of(rebuilt.file_sha256)));
}

TEST_F(RegistrationsTest, CopyThatCannotBeWrittenIsAnErrorAndNothingIsRegistered) {
  std::ofstream(folder() / "state" / "patches") << "a file where the folder should be";
  const auto done = journal_.register_patch(operation_, some_registration(), some_file());
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().what, HasSubstr("Not a directory"));
  EXPECT_THAT(names(journal_), IsEmpty());
}

TEST_F(RegistrationsTest, LastLoadIsTheNewestOfThisFileIntoThisDomain) {
  const OperationStart start = some_start();
  EXPECT_EQ(journal_.last_load(start.identity, start.file_sha256).value(), std::nullopt)
      << "the load has not begun";
  ASSERT_TRUE(journal_.event(operation_, "load", {{"boot_id", "b1"}}));
  EXPECT_EQ(journal_.last_load(start.identity, start.file_sha256).value()->id, operation_);
  const OperationId second = journal_.begin(start).value();
  ASSERT_TRUE(journal_.event(second, "load", {}));
  ASSERT_TRUE(journal_.begin(start));
  EXPECT_EQ(journal_.last_load(start.identity, start.file_sha256).value()->id, second);
  EXPECT_EQ(journal_.last_load("another", start.file_sha256).value(), std::nullopt);
  EXPECT_EQ(journal_.last_load(start.identity, "another").value(), std::nullopt);
}

TEST_F(RegistrationsTest, LastReleaseIsTheNewestThatWasSeenInThisDomain) {
  OperationStart start = some_start();
  start.identity = "another";
  start.guest_release = "";
  const auto begin = [&](const std::string& release) {
    start.guest_release = release;
    return journal_.begin(start).value();
  };
  begin("");
  EXPECT_EQ(journal_.last_release("another").value(), std::nullopt);
  begin("6.1.0-55");
  const OperationId learned = begin("");
  OperationEnd end = some_end();
  end.guest_release = "6.1.0-56";
  ASSERT_TRUE(journal_.end(learned, end));
  begin("");
  EXPECT_EQ(journal_.last_release("another").value(), "6.1.0-56");
  EXPECT_EQ(journal_.last_release("nobody").value(), std::nullopt);
}

}  // namespace
}  // namespace vpatch
