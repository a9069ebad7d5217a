// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/verb_command.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace vpatch::serve {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;

// sha256sum of "abc" (FIPS 180-2, B.1).
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A request's parameters for a domain, and more.
json::object with(std::initializer_list<std::pair<json::string_view, json::value_ref>> more) {
  json::object params{{"connection", "qemu:///system"}, {"domain", "web01"}};
  for (const auto& [key, value] : more) {
    params[key] = json::value(value);
  }
  return params;
}

class VerbCommandTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(files.put(kAbc, "YWJj")); }

  std::vector<std::string> words(std::string_view method, const json::object& params) {
    const auto command = command_of(method, params, files);
    EXPECT_TRUE(command) << command.error().what;
    return command ? command->words : std::vector<std::string>();
  }

  std::string refusal(std::string_view method, const json::object& params) {
    const auto command = command_of(method, params, files);
    return command ? "" : command.error().what;
  }

  SessionFiles files;
};

TEST_F(VerbCommandTest, IsTheVerbWithItsTarget) {
  EXPECT_THAT(words("list", {{"connection", "qemu:///session"}}),
              ElementsAre("serve", "--json", "--connect=qemu:///session", "--list"));
  EXPECT_THAT(words("look", with({})),
              ElementsAre("status", "--json", "--connect=qemu:///system", "--domain=web01"));
  EXPECT_THAT(words("health", with({})),
              ElementsAre("health", "--json", "--connect=qemu:///system", "--domain=web01"));
  EXPECT_THAT(words("revert", with({{"patch", "fix_1"}})),
              ElementsAre("revert", "--json", "--progress", "--connect=qemu:///system",
                          "--domain=web01", "fix_1"));
  EXPECT_THAT(words("register", with({{"file", kAbc}})),
              ElementsAre("ensure", "--json", "--connect=qemu:///system", "--domain=web01",
                          "--register=/proc/self/fd/3"));
  EXPECT_THAT(words("forget", with({{"patch", "fix_1"}})),
              ElementsAre("ensure", "--json", "--connect=qemu:///system", "--domain=web01",
                          "--forget=fix_1"));
  EXPECT_THAT(
      words("registered", with({})),
      ElementsAre("ensure", "--json", "--connect=qemu:///system", "--list", "--domain=web01"));
}

TEST_F(VerbCommandTest, NamesAFileOfTheSessionByItsDescriptor) {
  const auto apply = command_of(
      "apply", with({{"file", kAbc}, {"options", json::array{"--when-clear", "--timeout=5s"}}}),
      files);
  ASSERT_TRUE(apply);
  EXPECT_EQ(apply->file, files.find(kAbc));
  EXPECT_THAT(apply->words,
              ElementsAre("apply", "--json", "--progress", "--connect=qemu:///system",
                          "--domain=web01", "/proc/self/fd/3", "--when-clear", "--timeout=5s"));
  EXPECT_THAT(words("revert", with({{"file", kAbc}})),
              ElementsAre("revert", "--json", "--progress", "--connect=qemu:///system",
                          "--domain=web01", "--to=/proc/self/fd/3"));
}

TEST_F(VerbCommandTest, RefusesParametersThatAreMissingWrongOrUnknown) {
  EXPECT_THAT(refusal("look", {{"connection", "qemu:///system"}}), HasSubstr("\"domain\""));
  EXPECT_THAT(refusal("look", {{"domain", "web01"}}), HasSubstr("\"connection\""));
  EXPECT_THAT(refusal("look", with({{"domain", 7}})), HasSubstr("\"domain\""));
  EXPECT_THAT(refusal("look", with({{"domain", ""}})), HasSubstr("\"domain\""));
  EXPECT_THAT(refusal("look", with({{"domain", "a\nb"}})), HasSubstr("control"));
  EXPECT_THAT(refusal("look", with({{"domain", std::string(513, 'a')}})), HasSubstr("512"));
  EXPECT_THAT(refusal("look", with({{"options", json::array{}}})), HasSubstr("\"options\""));
  EXPECT_THAT(refusal("look", with({{"file", kAbc}})), HasSubstr("\"file\""));
  EXPECT_THAT(refusal("list", with({})), HasSubstr("\"domain\""));
  EXPECT_THAT(refusal("apply", with({})), HasSubstr("\"file\" is missing"));
  EXPECT_THAT(refusal("apply", with({{"file", kAbc}, {"patch", "a"}})), HasSubstr("\"patch\""));
  EXPECT_THAT(refusal("apply", with({{"file", std::string(64, 'a')}})), HasSubstr("put_file"));
  EXPECT_THAT(refusal("apply", with({{"file", "/etc/passwd"}})), HasSubstr("put_file"));
  EXPECT_THAT(refusal("revert", with({{"file", kAbc}, {"patch", "a"}})), HasSubstr("exclude"));
  EXPECT_THAT(refusal("register", with({})), HasSubstr("\"file\" is missing"));
  EXPECT_THAT(refusal("register", with({{"file", kAbc}, {"patch", "a"}})), HasSubstr("\"patch\""));
  EXPECT_THAT(refusal("forget", with({})), HasSubstr("\"patch\" is missing"));
  EXPECT_THAT(refusal("forget", with({{"patch", "--all"}})), HasSubstr("module"));
  EXPECT_THAT(refusal("registered", with({{"options", json::array{}}})), HasSubstr("\"options\""));
  EXPECT_THAT(refusal("registered", {{"connection", "qemu:///system"}}), HasSubstr("\"domain\""));
  for (const char* name : {"--qmp=/x", "-d", "a b", "../a", "a=b"}) {
    EXPECT_THAT(refusal("revert", with({{"patch", name}})), HasSubstr("module")) << name;
  }
}

TEST_F(VerbCommandTest, HoldsHealthAgainstAMarkAndRunsACommand) {
  const json::object params =
      with({{"mark", {{"boot_id", "5bfd"}, {"log_sequence", 71}, {"taint", 512}}},
            {"command", {{"argv", {"curl", "--", "[a,b]"}}, {"timeout_ms", 1500}}}});
  EXPECT_THAT(words("health", params),
              ElementsAre("health", "--json", "--connect=qemu:///system", "--domain=web01",
                          "--since-boot=5bfd", "--since-log=71", "--since-taint=512",
                          "--command-timeout=1500ms", "--", "curl", "--", "[a,b]"));
  EXPECT_THAT(refusal("look", params), HasSubstr("no parameter"));
}

TEST_F(VerbCommandTest, RefusesAMarkThatIsNone) {
  for (const json::value& mark :
       json::array{7,
                   json::object{},
                   {{"boot_id", "5bfd"}, {"log_sequence", 71}},
                   {{"boot_id", ""}, {"log_sequence", 71}, {"taint", 0}},
                   {{"boot_id", "a\nb"}, {"log_sequence", 71}, {"taint", 0}},
                   {{"boot_id", "5bfd"}, {"log_sequence", -1}, {"taint", 0}},
                   {{"boot_id", "5bfd"}, {"log_sequence", "1"}, {"taint", 0}},
                   {{"boot_id", "5bfd"}, {"log_sequence", 1}, {"taint", 0}, {"more", 0}}}) {
    EXPECT_THAT(refusal("health", with({{"mark", mark}})), HasSubstr("\"mark\"")) << mark;
  }
}

TEST_F(VerbCommandTest, RefusesACommandThatIsNone) {
  json::array many(65, json::value("a"));
  for (const json::value& command : json::array{"true",
                                                {{"argv", {"true"}}},
                                                {{"argv", json::array{}}, {"timeout_ms", 1}},
                                                {{"argv", "true"}, {"timeout_ms", 1}},
                                                {{"argv", {"true"}}, {"timeout_ms", 0}},
                                                {{"argv", {"true"}}, {"timeout_ms", 3'600'001}},
                                                {{"argv", many}, {"timeout_ms", 1}}}) {
    EXPECT_THAT(refusal("health", with({{"command", command}})), HasSubstr("\"command\""))
        << command;
  }
  for (const json::value& word : json::array{7, "a\nb", std::string(4097, 'a')}) {
    EXPECT_THAT(
        refusal("health",
                with({{"command", {{"argv", json::array{"true", word}}, {"timeout_ms", 1}}}})),
        HasSubstr("\"argv\""));
  }
}

TEST_F(VerbCommandTest, TakesConnectionsOfThisHostAlone) {
  for (const char* uri :
       {"qemu+ssh://other/system", "qemu+ext:///system?command=/bin/sh", "qemu:///embed?root=/tmp",
        "test:///etc/passwd", "qemu:///system ", "x"}) {
    EXPECT_THAT(refusal("look", {{"connection", uri}, {"domain", "a"}}), HasSubstr("connection"))
        << uri;
  }
}

TEST_F(VerbCommandTest, TakesOptionsOfTheListAlone) {
  for (const char* option : {"--policy=/tmp/p",
                             "--cert=/tmp/c",
                             "--qmp=/x",
                             "--qga=/x",
                             "--core=/x",
                             "--connect=x",
                             "--domain=other",
                             "--to=/x",
                             "--nop=/x",
                             "--agent-timeout=1h",
                             "--replace-with-nop",
                             "-n",
                             "-v",
                             "--",
                             "",
                             "web02",
                             "/etc/passwd",
                             "--timeou=5s",
                             "--help",
                             "--TIMEOUT=5s"}) {
    EXPECT_THAT(refusal("apply", with({{"file", kAbc}, {"options", json::array{option}}})),
                HasSubstr("not an option"))
        << option;
  }
  for (const char* option : {"--when-clear", "--allow-stacking", "--dry-run"}) {
    EXPECT_THAT(refusal("revert", with({{"options", json::array{option}}})),
                HasSubstr("not an option"))
        << option;
  }
}

TEST_F(VerbCommandTest, WantsTheValueInTheWordOfItsOption) {
  for (const char* option :
       {"--timeout", "--timeout=", "--persist=1", "--persist=", "--when-clear="}) {
    EXPECT_THAT(refusal("apply", with({{"file", kAbc}, {"options", json::array{option}}})),
                HasSubstr("is written as"))
        << option;
  }
}

TEST_F(VerbCommandTest, RefusesOptionsThatAreNoWords) {
  const auto with_options = [](json::value options) {
    return with({{"file", kAbc}, {"options", std::move(options)}});
  };
  EXPECT_THAT(refusal("apply", with_options("--persist")), HasSubstr("array"));
  EXPECT_THAT(refusal("apply", with_options(json::array{7})), HasSubstr("not an option"));
  EXPECT_THAT(refusal("apply", with_options(json::array{"--timeout=\n"})), HasSubstr("printable"));
  EXPECT_THAT(refusal("apply", with_options(json::array{"--quiesce=" + std::string(4096, 'a')})),
              HasSubstr("too long"));
  json::array many;
  for (int i = 0; i < 33; ++i) {
    many.emplace_back("--persist");
  }
  EXPECT_THAT(refusal("apply", with_options(many)), HasSubstr("at most 32"));
}

TEST(SessionFiles, KeepWhatIsWhatItsSumSays) {
  SessionFiles files;
  EXPECT_EQ(files.find(kAbc), -1);
  EXPECT_FALSE(files.put(kAbc, "YWJk"));
  EXPECT_FALSE(files.put(kAbc, "YWJj\n"));
  EXPECT_FALSE(
      files.put("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", "YWJj"));
  EXPECT_FALSE(files.put("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                         ""));  // of no bytes
  EXPECT_EQ(files.find(kAbc), -1);
  EXPECT_EQ(files.put(kAbc, "YWJj").value(), 3U);
  const int fd = files.find(kAbc);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(files.put(kAbc, "YWJj").value(), 3U);
  EXPECT_EQ(files.find(kAbc), fd);
}

TEST(SessionFiles, CannotBeChanged) {
  SessionFiles files;
  ASSERT_TRUE(files.put(kAbc, "YWJj"));
  const int fd = files.find(kAbc);
  EXPECT_NE(pwrite(fd, "x", 1, 0), 1);
  EXPECT_NE(ftruncate(fd, 0), 0);
  struct stat status{};
  ASSERT_EQ(fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, 3);
}

}  // namespace
}  // namespace vpatch::serve
