// SPDX-License-Identifier: Apache-2.0
// The verbs that look into a real guest, and what they leave as it was.
#include <algorithm>
#include <filesystem>
#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/look_fixture.h"

namespace vpatch::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// Tasks in a function that vpatch_target_lp changes; gone again when it ends.
class BlockedLookTest : public LookTest {
 protected:
  void SetUp() override { before_ = vm().fingerprint(); }
  void TearDown() override {
    target("release");
    EXPECT_TRUE(target_state_is("sleeping=0 blocked=0 spinning=0"));
    const ProcessResult result = vm().vpatch("revert", {"vpatch_target_lp"});
    EXPECT_EQ(result.exit_code, 0) << result;
    EXPECT_EQ(vm().fingerprint(), before_);
    EXPECT_EQ(vm().trouble(), "");
  }
  void block_a_thread() {
    target("thread block");
    ASSERT_TRUE(target_state_is("sleeping=0 blocked=1 spinning=0"));
  }

  std::string before_;
  const std::string patch_ = module_path("vpatch_target_lp");
};

std::vector<std::string> strings_of(const boost::json::value& list) {
  std::vector<std::string> result;
  for (const auto& text : list.as_array()) {
    result.emplace_back(text.as_string());
  }
  return result;
}

/// What names a task, its stack, and what it does: all that two looks at a guest that stands still
/// must agree on.
std::multiset<std::string> summary(const boost::json::object& answer) {
  std::multiset<std::string> lines;
  for (const auto& entry : answer.at("tasks").as_array()) {
    const auto& task = entry.as_object();
    lines.insert(fmt::format("{} {} {} {} {}", number_of(task, "tid"), text_of(task, "name"),
                             text_of(task, "state"), text_of(task, "activity"),
                             boost::json::serialize(task.at("frames"))));
  }
  return lines;
}

TEST_F(LookTest, StacksOfOneTaskByNameAndByNumber) {
  for (const char* task : {"kthreadd", "2"}) {
    const auto answer = look(vm(), "stacks", {"--task", task});
    ASSERT_EQ(answer.at("tasks").as_array().size(), 1U) << task;
    const auto& found = answer.at("tasks").at(0).as_object();
    EXPECT_EQ(text_of(found, "name"), "kthreadd");
    EXPECT_EQ(number_of(found, "tid"), 2U);
    EXPECT_THAT(frames_of(found), Contains(StartsWith("kthreadd+0x")));
  }
}

TEST_F(LookTest, UnknownTaskIsRefusedWithAMessage) {
  for (const char* task : {"no-such-task", "4000000"}) {
    const ProcessResult result = vm().vpatch("stacks", {"--task", task});
    EXPECT_EQ(result.exit_code, 3) << result;
    EXPECT_THAT(result.err, HasSubstr(fmt::format("has no task {}", task))) << result;
    EXPECT_EQ(result.out, "") << result;
  }
}

TEST_F(LookTest, PausedLookSaysHowLongAndLeavesTheGuestRunning) {
  for (int round = 0; round < 3; ++round) {
    const auto answer = look(vm(), "stacks", {"--paused"});
    EXPECT_EQ(run_state(vm()), "running");
    ASSERT_TRUE(answer.at("pause_us").is_number()) << boost::json::serialize(answer);
    EXPECT_GT(number_of(answer, "pause_us"), 0U);
    fmt::print("pause: kernel {}: {} us, the look in it {} us, {} tasks\n", kernel(),
               number_of(answer, "pause_us"), number_of(answer, "look_us"),
               number_of(answer, "tasks_seen"));
    for (const auto& entry : answer.at("tasks").as_array()) {
      EXPECT_NE(text_of(entry.as_object(), "activity"), "running") << entry;
    }
  }
  EXPECT_EQ(vm().vpatch("status", {"--paused"}).exit_code, 0);
  EXPECT_EQ(run_state(vm()), "running");
}

TEST_F(LookTest, PauseOfSomebodyElseIsLeftAlone) {
  vm().monitor("stop");
  const std::vector<std::vector<std::string>> looks = {
      {"status"}, {"status", "--paused"}, {"stacks"}, {"stacks", "--paused"}, {"log"}};
  for (const auto& words : looks) {
    const ProcessResult result = vm().vpatch(words.front(), {words.begin() + 1, words.end()});
    EXPECT_EQ(result.exit_code, 0) << words.front() << "\n" << result;
    EXPECT_EQ(run_state(vm()), "paused") << words.front();
  }
  vm().vpatch("doctor");
  EXPECT_EQ(run_state(vm()), "paused");
  vm().monitor("cont");
  EXPECT_EQ(run_state(vm()), "running");
}

TEST_F(LookTest, CoreFileShowsWhatTheGuestShowedBefore) {
  const std::string core =
      fmt::format("{}vpatch-look-{}-{}.core", testing::TempDir(), backend(), kernel());
  vm().monitor("stop");
  const auto live = look(vm(), "stacks", {"--paused"});
  const auto live_status = look(vm(), "status");
  vm().monitor("dump-guest-memory", {{"paging", false}, {"protocol", "file:" + core}});
  vm().monitor("cont");
  const std::string program = vm().vpatch_argv("stacks", {}).front();
  const ProcessResult stacks = run({program, "stacks", "--json", "--core", core});
  const ProcessResult status = run({program, "status", "--json", "--core", core});
  const ProcessResult log = run({program, "log", "--json", "--core", core});
  std::filesystem::remove(core);
  ASSERT_EQ(stacks.exit_code, 0) << stacks;
  const auto dead = boost::json::parse(stacks.out).as_object();
  EXPECT_EQ(summary(dead), summary(live));
  EXPECT_GT(number_of(dead, "tasks_seen"), 50U);
  ASSERT_EQ(status.exit_code, 0) << status;
  EXPECT_EQ(boost::json::parse(status.out).at("release"), live_status.at("release"));
  EXPECT_EQ(log.exit_code, 0) << log;
}

TEST_F(BlockedLookTest, StacksNameExactlyTheTasksThatWouldBlock) {
  block_a_thread();
  vm().guest(
      "exec </dev/null >/dev/null 2>&1; sleep 1000 & "
      "sh -c 'echo sleep >/sys/kernel/vpatch_target/control' &");
  ASSERT_TRUE(target_state_is("sleeping=1 blocked=1 spinning=0"));
  std::set<std::string> names;
  const auto answer = look(vm(), "stacks", {"--blocking", patch_});
  for (const auto& entry : answer.at("tasks").as_array()) {
    const auto& task = entry.as_object();
    if (text_of(task, "activity") != "asleep") {
      continue;  // it runs, and passes in a moment
    }
    const std::string name = text_of(task, "name");
    names.insert(name);
    EXPECT_EQ(text_of(task, "blocks"), "on-stack") << entry;
    const std::string function =
        name == "vpt_block" ? "vpatch_target_block" : "vpatch_target_sleep";
    EXPECT_EQ(text_of(task, "why"), function + " [vpatch_target] is on its stack");
    EXPECT_THAT(frames_of(task), Contains(StartsWith(function + "+0x")));
  }
  EXPECT_THAT(names, ElementsAre("sh", "vpt_block"));
  EXPECT_TRUE(answer.at("unknown").as_array().empty()) << boost::json::serialize(answer);
  EXPECT_GT(number_of(answer, "tasks_seen"), 50U);
}

TEST_F(BlockedLookTest, DryRunForetellsWhoWouldBlockAndChangesNothing) {
  block_a_thread();
  const ProcessResult result = vm().vpatch("apply", {"--dry-run", "--json", patch_});
  ASSERT_EQ(result.exit_code, 0) << result;
  const auto report = boost::json::parse(result.out).as_object();
  EXPECT_EQ(number_of(report.at("blockers").as_object(), "count"), 1U) << result;
  const auto& blocker = report.at("blockers").at("tasks").at(0).as_object();
  EXPECT_EQ(text_of(blocker, "name"), "vpt_block");
  EXPECT_EQ(text_of(blocker, "reason"), "on-stack");
  EXPECT_THAT(boost::json::serialize(report.at("findings")), HasSubstr("would-block"));
  EXPECT_EQ(vm().fingerprint(), before_);
}

TEST_F(BlockedLookTest, DryRunSaysWhenNobodyWouldBlock) {
  const ProcessResult result = vm().vpatch("apply", {"--dry-run", patch_});
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_THAT(result.out + result.err, HasSubstr("tasks would hold it up now")) << result;
  EXPECT_EQ(vm().fingerprint(), before_);
}

/// The one task that the transition waits for.
void expect_pending(const boost::json::object& status, const std::string& direction,
                    const std::string& function) {
  const auto& transition = status.at("transition").as_object();
  EXPECT_EQ(text_of(transition, "patch"), "vpatch_target_lp");
  EXPECT_EQ(text_of(transition, "direction"), direction);
  EXPECT_GT(number_of(transition, "tasks"), 50U);
  EXPECT_EQ(number_of(transition, "moved") + 1, number_of(transition, "tasks"));
  const auto& pending = status.at("pending").as_object();
  EXPECT_EQ(number_of(pending, "count"), 1U);
  const auto& task = pending.at("tasks").at(0).as_object();
  EXPECT_EQ(text_of(task, "name"), "vpt_block");
  EXPECT_EQ(text_of(task, "state"), "D (disk sleep)");
  EXPECT_EQ(text_of(task, "reason"), "on-stack");
  EXPECT_THAT(text_of(task, "why"), AllOf(HasSubstr("is on its stack"), HasSubstr("block")));
  EXPECT_THAT(strings_of(task.at("stack")), Contains(StartsWith(function + "+0x")));
}

TEST_F(BlockedLookTest, StatusShowsWhomAPatchingTransitionWaitsFor) {
  block_a_thread();
  const ProcessResult applied =
      vm().vpatch("apply", {"--timeout", "1", "--on-stall", "wait", patch_});
  ASSERT_EQ(applied.exit_code, 5) << applied;
  expect_pending(look(vm(), "status"), "patching", "vpatch_target_block");
  const ProcessResult shown = vm().vpatch("status");
  EXPECT_THAT(shown.out, AllOf(HasSubstr("vpt_block"), HasSubstr("vpatch_target_block"))) << shown;
}

TEST_F(BlockedLookTest, StatusShowsWhomAnUnpatchingTransitionWaitsFor) {
  const ProcessResult applied = vm().vpatch("apply", {patch_});
  ASSERT_EQ(applied.exit_code, 0) << applied;
  block_a_thread();
  const ProcessResult reverted =
      vm().vpatch("revert", {"--timeout", "1", "--on-stall", "wait", "vpatch_target_lp"});
  ASSERT_EQ(reverted.exit_code, 5) << reverted;
  expect_pending(look(vm(), "status"), "unpatching", "patched_block");
}

class RebootLookTest : public LookTest {
 protected:
  void TearDown() override { drop_vm(); }  // what it had loaded is gone
};

TEST_F(RebootLookTest, SecondLookComesFromTheCacheAndARebootMakesItLearnAnew) {
  ASSERT_EQ(vm().vpatch("status").exit_code, 0);
  const std::string file = LibraryView(vm()).cache_file();
  const std::string kept = read_file(file);
  EXPECT_FALSE(kept.empty()) << file;
  {
    const LibraryView again(vm());
    EXPECT_TRUE(again.kernel().from_cache());
  }
  const auto boot_id = vm().guest("cat /proc/sys/kernel/random/boot_id");
  vm().guest("touch /run/this-boot");
  vm().monitor("system_reset");
  ASSERT_TRUE(eventually([] { return vm().guest("[ -e /run/this-boot ] || echo new") == "new\n"; },
                         std::chrono::seconds(120)));
  EXPECT_FALSE(LibraryView(vm()).kernel().from_cache());
  const auto status = look(vm(), "status");
  EXPECT_NE(vm().guest("cat /proc/sys/kernel/random/boot_id"), boot_id);
  EXPECT_LT(number_of(status, "uptime_seconds"), 120U);
  EXPECT_NE(read_file(file), kept);
  const LibraryView third(vm());
  EXPECT_TRUE(third.kernel().from_cache());
}

}  // namespace
}  // namespace vpatch::test
