// SPDX-License-Identifier: Apache-2.0
// The shell scripts of AgentGuest, run by the shells of this host over a made-up /proc and /sys.
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <boost/algorithm/string/replace.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/qmp/scripted_channel.h"
#include "vmm-agent/guest/agent_guest.h"

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct ClosePipe {
  void operator()(FILE* pipe) const { pclose(pipe); }
};

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, ClosePipe> pipe(popen(command.c_str(), "re"));
  std::string output;
  std::array<char, 4096> buffer{};
  while (const std::size_t size =
             pipe == nullptr ? 0 : fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    output.append(buffer.data(), size);
  }
  return output;
}

/// The script that `ask` sends to the agent.
template <class Ask>
std::string script_of(const Ask& ask, Urgency urgency = Urgency::ordinary) {
  qmp::ScriptedChannel channel;
  AgentGuest guest(channel, urgency);
  static_cast<void>(ask(guest));
  return std::string(channel.sent.at(0).arguments.at("arg").as_array().at(1).as_string());
}

class AgentScript : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (output_of(fmt::format("{} -c 'echo works' 2>&1", GetParam())) != "works\n") {
      GTEST_SKIP() << GetParam() << " is not installed";
    }
    std::string folder = testing::TempDir() + "/vpatch-script-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    root_ = folder;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void make_folder(const std::string& path) const {
    std::filesystem::create_directories(root_ / path);
  }

  /// What the shell prints, error messages included, for the script with /proc and /sys under the
  /// made-up root.
  std::string run(std::string script, const std::string& argument = "") const {
    for (const char* folder : {"/proc/", "/sys/kernel/livepatch", "/sys/kernel/vpatch"}) {
      boost::replace_all(script, folder, root_.string() + folder);
    }
    write("script", script);
    return output_of(
        fmt::format("{} {} {} 2>&1", GetParam(), (root_ / "script").string(), argument));
  }

  GuestState observe() const {
    return parse_guest_state(run(script_of([](AgentGuest& guest) { return guest.observe({}); })));
  }

  std::filesystem::path root_;
};

TEST_P(AgentScript, ObservesAPatchWithItsObjectsAndFunctions) {
  write("proc/modules", "p1 16384 1 - Live 0x0000000000000000 (OEK)\n");
  write("sys/kernel/livepatch/p1/enabled", "1\n");
  write("sys/kernel/livepatch/p1/transition", "0\n");
  write("sys/kernel/livepatch/p1/replace", "1\n");
  write("sys/kernel/livepatch/p1/vmlinux/patched", "1\n");
  make_folder("sys/kernel/livepatch/p1/vmlinux/cmdline_proc_show,1");
  make_folder("sys/kernel/livepatch/p1/vmlinux/vfs_read,2");
  const GuestState state = observe();
  ASSERT_THAT(state.patches, SizeIs(1));
  EXPECT_EQ(state.patches[0].phase(), PatchPhase::patched);
  EXPECT_EQ(state.patches[0].replace, true);
  ASSERT_THAT(state.patches[0].objects, SizeIs(1));
  EXPECT_THAT(state.patches[0].objects[0].functions,
              ElementsAre("cmdline_proc_show,1", "vfs_read,2"));
}

TEST_P(AgentScript, ObservesTheKernelsValues) {
  write("proc/sys/kernel/random/boot_id", "0f3c\n");
  write("proc/sys/kernel/tainted", "4096\n");
  write("proc/uptime", "12.50 20.00\n");
  write("proc/modules", "ext4 1000 2 crc32,jbd2, Live 0x0000000000000000\n");
  make_folder("sys/kernel/livepatch");
  const GuestState state = observe();
  EXPECT_EQ(state.boot_id, "0f3c");
  EXPECT_EQ(state.tainted, 4096U);
  EXPECT_DOUBLE_EQ(state.uptime_seconds, 12.5);
  EXPECT_TRUE(state.has_livepatch);
  ASSERT_THAT(state.modules, SizeIs(1));
  EXPECT_EQ(state.modules[0].references, 2U);
}

TEST_P(AgentScript, ObservesTheGuestModuleButNotItsMailbox) {
  write("proc/modules", "");
  write("sys/kernel/vpatch/version", "0.1.0\n");
  write("sys/kernel/vpatch/watch", "p1\n");
  EXPECT_THAT(observe().guest_module, ElementsAre(std::pair("version", "0.1.0")));
}

TEST_P(AgentScript, ObservesAKernelWithoutLivepatches) {
  write("proc/modules", "");
  const GuestState state = observe();
  EXPECT_NE(state.release, "");
  EXPECT_FALSE(state.has_livepatch);
  EXPECT_THAT(state.patches, IsEmpty());
}

TEST_P(AgentScript, ListsTheTasksThatWait) {
  write("proc/42/task/42/patch_state", "0\n");
  write("proc/42/task/42/comm", "dd\n");
  write("proc/42/task/42/status", "Name:\tdd\nState:\tD (disk sleep)\nTgid:\t42\n");
  write("proc/42/task/42/stack", "[<0>] io_schedule+0x46/0x70\n[<0>] f+0x1/0x2 [ext4]\n");
  write("proc/43/task/43/patch_state", "1\n");
  write("proc/44/task/45/patch_state", "-1\n");
  const PendingTasks tasks = parse_pending_tasks(
      run(script_of([](AgentGuest& guest) { return guest.pending_tasks(true, {}); }), "1"));
  EXPECT_EQ(tasks.count, 1U);
  ASSERT_THAT(tasks.first, SizeIs(1));
  EXPECT_EQ(tasks.first[0].tid, 42U);
  EXPECT_EQ(tasks.first[0].name, "dd");
  EXPECT_EQ(tasks.first[0].state, "D (disk sleep)");
  EXPECT_THAT(tasks.first[0].stack, ElementsAre("io_schedule+0x46/0x70", "f+0x1/0x2 [ext4]"));
}

TEST_P(AgentScript, GivesDetailsOfTheFirstSixteenTasksOnly) {
  for (int i = 1; i <= 20; ++i) {
    write(fmt::format("proc/{}/task/{}/patch_state", i, i), "0\n");
  }
  const PendingTasks tasks = parse_pending_tasks(
      run(script_of([](AgentGuest& guest) { return guest.pending_tasks(true, {}); }), "1"));
  EXPECT_EQ(tasks.count, 20U);
  EXPECT_THAT(tasks.first, SizeIs(16));
}

TEST_P(AgentScript, WritesEnabledAndTellsTheGuestModuleToWatch) {
  write("sys/kernel/vpatch/watch", "");
  write("sys/kernel/livepatch/p1/enabled", "1\n");
  EXPECT_EQ(
      run(script_of([](AgentGuest& guest) { return guest.set_enabled("p1", false, {}); }), "p1 0"),
      "");
  EXPECT_EQ(output_of("cat " + (root_ / "sys/kernel/livepatch/p1/enabled").string()), "0");
  EXPECT_EQ(output_of("cat " + (root_ / "sys/kernel/vpatch/watch").string()), "p1");
}

TEST_P(AgentScript, WhatIsUrgentHasTheHighestPriority) {
  write("sys/kernel/livepatch/p1/enabled", "1\n");
  const auto disable = [](AgentGuest& guest) { return guest.set_enabled("p1", false, {}); };
  const std::string priority = "\nexec nice";
  const std::string ordinary = run(script_of(disable) + priority, "p1 0");
  const std::string urgent = run(script_of(disable, Urgency::highest) + priority, "p1 0");
  EXPECT_EQ(urgent, geteuid() == 0 ? "-20\n" : ordinary);
  EXPECT_EQ(output_of("cat " + (root_ / "sys/kernel/livepatch/p1/enabled").string()), "0");
}

TEST_P(AgentScript, WritesForce) {
  write("sys/kernel/livepatch/p1/force", "");
  EXPECT_EQ(run(script_of([](AgentGuest& guest) { return guest.force("p1", {}); }), "p1"), "");
  EXPECT_EQ(output_of("cat " + (root_ / "sys/kernel/livepatch/p1/force").string()), "1");
}

TEST_P(AgentScript, PrintsTheFileOfAnInstalledModule) {
  const std::string release = output_of("printf %s $(uname -r)");
  for (const auto& [file, write_it] :
       {std::pair("m.ko", "cat"), std::pair("m.ko.gz", "gzip -c"), std::pair("m.ko.xz", "xz -c")}) {
    const std::string path = (root_ / "lib/modules" / release / "updates/dkms" / file).string();
    write("lib/modules/" + release + "/updates/dkms/empty", "");
    output_of(fmt::format("printf ELF | {} >{}", write_it, path));
    std::string script =
        script_of([](AgentGuest& guest) { return guest.installed_module("m", {}); });
    boost::replace_all(script, "tool modinfo -n \"$1\"", "echo " + path);
    EXPECT_EQ(run(script, "m"), "ELF") << file;
  }
}

TEST_P(AgentScript, KnowsNoModuleOfAnotherKernel) {
  write("lib/modules/1.2.3/m.ko", "ELF");
  std::string script = script_of([](AgentGuest& guest) { return guest.installed_module("m", {}); });
  boost::replace_all(script, "tool modinfo -n \"$1\"",
                     "echo " + (root_ / "lib/modules/1.2.3/m.ko").string());
  EXPECT_EQ(run(script, "m; echo $?").substr(0, 2), "44");
}

TEST_P(AgentScript, TakesAPatchsNameAsOneWordAndRunsNothingOfIt) {
  write("sys/kernel/livepatch/p 1;$(exit 3)`exit 3`*/enabled", "1\n");
  EXPECT_EQ(run(script_of([](AgentGuest& guest) { return guest.set_enabled("any", false, {}); }),
                "'p 1;$(exit 3)`exit 3`*' 0"),
            "");
  EXPECT_EQ(
      output_of("cat '" + (root_ / "sys/kernel/livepatch/p 1;$(exit 3)`exit 3`*/enabled").string() +
                "'"),
      "0");
}

TEST_P(AgentScript, SaysWhyAPatchCannotBeSet) {
  EXPECT_NE(
      run(script_of([](AgentGuest& guest) { return guest.set_enabled("p1", false, {}); }), "p1 0"),
      "");
}

TEST_P(AgentScript, LoadTakesTheFileAwayWhateverCameOfIt) {
  write("run/vpatch-delivery/p1.ko", "the module ");
  write("bin/insmod", "#!/bin/sh\ncat \"$1\"\nexit 7\n");
  std::filesystem::permissions(root_ / "bin/insmod", std::filesystem::perms::owner_all);
  std::string script = script_of([](AgentGuest& guest) { return guest.load("p1", {}); });
  boost::replace_all(script, "/usr/sbin /sbin", (root_ / "bin").string());
  boost::replace_all(script, "/run/vpatch-delivery", (root_ / "run/vpatch-delivery").string());
  EXPECT_EQ(run("(" + script + "\n)\necho $?", (root_ / "run/vpatch-delivery/p1.ko").string()),
            "the module 7\n");
  EXPECT_FALSE(std::filesystem::exists(root_ / "run/vpatch-delivery"));
}

INSTANTIATE_TEST_SUITE_P(Shells, AgentScript, testing::Values("/bin/sh", "busybox sh", "bash"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase_if(name, [](char c) {
                             return std::isalnum(static_cast<unsigned char>(c)) == 0;
                           });
                           return name;
                         });

}  // namespace
}  // namespace vpatch
