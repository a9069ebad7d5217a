// SPDX-License-Identifier: Apache-2.0
// What the server lets through, as the program itself understands it.
#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm-agent/cli/options.h"
#include "vmm-agent/serve/verb_command.h"

namespace vpatch::serve {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "vpatch");
  std::vector<char*> argv;
  std::ranges::transform(words, std::back_inserter(argv), [](auto& word) { return word.data(); });
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

Options parse_request(std::string_view method, const json::object& params) {
  SessionFiles files;
  EXPECT_TRUE(files.put(kAbc, "YWJj"));
  const auto command = command_of(method, params, files);
  EXPECT_TRUE(command) << command.error().what;
  return command ? parse(command->words) : Options();
}

json::object target(std::string_view domain) {
  return {{"connection", "qemu:///session"}, {"domain", domain}};
}

TEST(CommandLine, IsOfTheVerbAndTheTarget) {
  const auto expect = [](std::string_view method, Verb verb, const json::object& more) {
    json::object params = target("web01");
    params.insert(more.begin(), more.end());
    const Options options = parse_request(method, params);
    EXPECT_EQ(options.verb, verb) << method;
    EXPECT_TRUE(options.json);
    EXPECT_EQ(options.target.uri, "qemu:///session");
    EXPECT_EQ(options.target.domain, "web01");
  };
  expect("look", Verb::status, {});
  expect("health", Verb::health, {});
  expect("apply", Verb::apply, {{"file", kAbc}});
  expect("revert", Verb::revert, {{"patch", "fix"}});
  expect("revert", Verb::revert, {{"file", kAbc}});
  expect("revert", Verb::revert, {});
  expect("register", Verb::ensure, {{"file", kAbc}});
  expect("forget", Verb::ensure, {{"patch", "fix"}});
  expect("registered", Verb::ensure, {});
  json::object params = target("web01");
  EXPECT_TRUE(parse_request("registered", params).list);
  params["patch"] = "fix";
  EXPECT_EQ(parse_request("forget", params).forget, "fix");
  params.erase("patch");
  params["file"] = kAbc;
  EXPECT_EQ(parse_request("register", params).file, "/proc/self/fd/3");
  const Options list = parse_request("list", {{"connection", "qemu:///session"}});
  EXPECT_EQ(list.verb, Verb::serve);
  EXPECT_TRUE(list.list);
  EXPECT_FALSE(list.stdio);
  EXPECT_EQ(list.target.uri, "qemu:///session");
}

TEST(CommandLine, CannotMakeAnOptionOfADomainsName) {
  for (const char* name : {"--policy=/tmp/x", "-h", "--", "a b", "x=y", "\"", "[a,b]", "%%"}) {
    const Options options = parse_request("look", target(name));
    EXPECT_EQ(options.verb, Verb::status) << name;
    EXPECT_EQ(options.target.domain, name);
  }
}

TEST(CommandLine, KnowsEachOptionOfApply) {
  json::object params = target("web01");
  params["file"] = kAbc;
  params["options"] = {"--when-clear",        "--timeout=5s",     "--on-stall=wait",
                       "--grace=1m",          "--assist=kick",    "--signal-after=60ms",
                       "--switch-after=30ms", "--max-pause=10ms", "--require-signed",
                       "--quiesce=f,ext4:g",  "--allow-stacking", "--allow-downgrade",
                       "--settle=3s",         "--persist"};
  const Options options = parse_request("apply", params);
  ASSERT_EQ(options.verb, Verb::apply);
  EXPECT_EQ(options.file, "/proc/self/fd/3");
  EXPECT_EQ(options.apply.when_clear, 60s);
  EXPECT_EQ(options.apply.timeout, 5s);
  EXPECT_EQ(options.apply.on_stall, OnStall::wait);
  EXPECT_EQ(options.apply.grace, 1min);
  EXPECT_EQ(options.assist.mode, AssistMode::kick);
  EXPECT_EQ(options.assist.signal_after, 60ms);
  EXPECT_EQ(options.assist.switch_after, 30ms);
  EXPECT_EQ(options.assist.max_pause, 10ms);
  EXPECT_TRUE(options.signature.required);
  EXPECT_THAT(options.apply.quiesce, testing::ElementsAre("f", "ext4:g"));
  EXPECT_TRUE(options.apply.preflight.allow_stacking);
  EXPECT_TRUE(options.apply.preflight.allow_downgrade);
  EXPECT_EQ(options.settle, 3s);
  EXPECT_TRUE(options.persist);
  params["options"] = {"--dry-run", "--when-clear=2s"};
  const Options dry = parse_request("apply", params);
  EXPECT_TRUE(dry.apply.dry_run);
  EXPECT_EQ(dry.apply.when_clear, 2s);
}

TEST(CommandLine, KnowsEachOptionOfRevert) {
  json::object params = target("web01");
  params["options"] = {"--replace-with-nop", "--timeout=5s",        "--on-stall=wait",
                       "--grace=1m",         "--assist=off",        "--signal-after=60ms",
                       "--require-signed",   "--switch-after=30ms", "--max-pause=10ms"};
  const Options options = parse_request("revert", params);
  ASSERT_EQ(options.verb, Verb::revert);
  EXPECT_TRUE(options.replace_with_nop);
  EXPECT_EQ(options.revert.timeout, 5s);
  EXPECT_EQ(options.revert.on_stall, OnStall::wait);
  EXPECT_EQ(options.apply.grace, 1min);
  EXPECT_EQ(options.assist.mode, AssistMode::off);
  EXPECT_TRUE(options.signature.required);
  params["file"] = kAbc;
  params["options"] = {"--persist", "--settle=3s"};
  const Options to_file = parse_request("revert", params);
  EXPECT_EQ(to_file.revert_to, "/proc/self/fd/3");
  EXPECT_TRUE(to_file.persist);
  EXPECT_EQ(to_file.settle, 3s);
}

TEST(CommandLine, OfHealthHasTheMarkAndTheCommandWordForWord) {
  json::object params = target("web01");
  params["mark"] = {{"boot_id", "5bfd"}, {"log_sequence", 71}, {"taint", 512}};
  params["command"] = {{"argv", {"sh", "--domain=other", "[a,b]", "--", ""}}, {"timeout_ms", 1500}};
  const Options options = parse_request("health", params);
  ASSERT_EQ(options.verb, Verb::health);
  EXPECT_EQ(options.target.domain, "web01");
  EXPECT_EQ(options.health.since.boot_id, "5bfd");
  EXPECT_EQ(options.health.since.log_sequence, 71U);
  EXPECT_EQ(options.health.since.taint, 512U);
  EXPECT_EQ(options.health.command_timeout, 1500ms);
  EXPECT_THAT(options.health.command,
              testing::ElementsAre("sh", "--domain=other", "[a,b]", "--", ""));
}

TEST(CommandLine, OfApplyAndRevertTellsHowItGoes) {
  json::object params = target("web01");
  EXPECT_TRUE(parse_request("revert", params).progress);
  params["file"] = kAbc;
  EXPECT_TRUE(parse_request("apply", params).progress);
}

TEST(CommandLine, OfServeIsOneOfTwo) {
  EXPECT_TRUE(parse({"serve", "--stdio"}).stdio);
  for (const std::vector<std::string>& words : {std::vector<std::string>{"serve"},
                                                {"serve", "--stdio", "--list"},
                                                {"serve", "--stdio", "--connect=qemu:///system"}}) {
    const Options options = parse(words);
    EXPECT_EQ(options.verb, Verb::none);
    EXPECT_EQ(options.exit_code, 2);
  }
}

}  // namespace
}  // namespace vpatch::serve
