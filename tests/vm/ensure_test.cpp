// SPDX-License-Identifier: Apache-2.0
// A registered livepatch comes back after a reboot, and the journal tells all of it.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;

TestVm& vm() {
  static TestVm machine(fmt::format("vpatch-ensure-{}-{}", backend(), kernel()));
  return machine;
}

ProcessResult history(std::vector<std::string> words) {
  words.insert(words.begin(), {VPATCH_PROGRAM, "history"});
  return run(words);
}

json::array operations() {
  const ProcessResult result = history({"--json"});
  EXPECT_EQ(result.exit_code, 0) << result;
  return json::parse(result.out).as_object().at("operations").as_array();
}

void wait_for_next_boot() {
  ASSERT_TRUE(eventually([] { return vm().guest("[ -e /run/this-boot ] || echo new") == "new\n"; },
                         std::chrono::seconds(600)));
}

/// The names of what is registered for the guest, in order.
std::vector<std::string> registered() {
  const ProcessResult result = vm().vpatch("ensure", {"--list", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result;
  std::vector<std::string> names;
  const json::object listed = json::parse(result.out).as_object();
  for (const json::value& one : listed.at("registrations").as_array()) {
    names.emplace_back(one.at("patch").as_string());
  }
  return names;
}

/// Makes the guest, which libvirt would forget when it is off, one that can be off.
class Defined {
 public:
  Defined() {
    const ProcessResult xml = virsh({"dumpxml", "--inactive", vm().name()});
    const std::string path = testing::TempDir() + vm().name() + ".xml";
    write_file(path, xml.out);
    const ProcessResult defined = virsh({"define", path});
    EXPECT_EQ(defined.exit_code, 0) << defined;
    fs::remove(path);
  }
  Defined(const Defined&) = delete;
  Defined& operator=(const Defined&) = delete;
  ~Defined() {
    const ProcessResult undefined = virsh({"undefine", vm().name()});
    EXPECT_EQ(undefined.exit_code, 0) << undefined;
  }

  static void power_off() { must("destroy"); }
  static void power_on() {
    must("start");
    ASSERT_TRUE(
        eventually([] { return vm().guest("echo up") == "up\n"; }, std::chrono::seconds(600)));
  }

 private:
  static ProcessResult virsh(std::vector<std::string> words) {
    words.insert(words.begin(), {"virsh", "-q", "-c", vm().target().uri});
    return run(words);
  }
  static void must(const std::string& verb) {
    const ProcessResult done = virsh({verb, vm().name()});
    ASSERT_EQ(done.exit_code, 0) << done;
  }
};

/// Starts the guest anew, as a crash does.
void reboot() {
  vm().guest("touch /run/this-boot");
  vm().monitor("system_reset");
  wait_for_next_boot();
}

/// Each test has a journal of its own.
class EnsureTest : public testing::Test {
 public:
  ~EnsureTest() override {
    const ProcessResult result = vm().vpatch("revert", {"vpatch_demo_v1"});
    EXPECT_EQ(result.exit_code, 0) << result;
    EXPECT_EQ(vm().guest("ls /sys/kernel/livepatch"), "");
    EXPECT_EQ(vm().trouble(), "");
    fs::remove_all(folder_);
  }

 protected:
  EnsureTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    setenv("VPATCH_JOURNAL", journal().c_str(), 1);
    fs::copy_file(module_path("vpatch_demo_v1"), patch_);
  }

  std::string journal() const { return folder_ / "journal.db"; }

  static ProcessResult ensure(std::vector<std::string> words = {}) {
    words.insert(words.end(), {"--settle", "2s"});
    return vm().vpatch("ensure", words);
  }
  void persist() const {
    const ProcessResult applied = vm().vpatch("apply", {patch_, "--persist", "--settle", "2s"});
    ASSERT_EQ(applied.exit_code, 0) << applied;
    ASSERT_THAT(applied.err, HasSubstr("registered vpatch_demo_v1"));
  }

  const fs::path folder_ =
      testing::TempDir() + fmt::format("vpatch-ensure-{}-{}", backend(), kernel());
  const std::string patch_ = folder_ / "fix.ko";
};

TEST_F(EnsureTest, RebootedGuestGetsItsPatchBack) {
  persist();
  fs::remove(patch_);  // the journal has a copy
  const ProcessResult idle = ensure();
  EXPECT_EQ(idle.exit_code, 0) << idle;
  EXPECT_THAT(idle.out, HasSubstr("vpatch_demo_v1 is in force"));
  EXPECT_EQ(operations().size(), 1U) << "nothing was done, so nothing is recorded";

  reboot();
  ASSERT_THAT(vm().guest("cat /proc/cmdline"), Not(HasSubstr("vpatch_demo=1")));
  const ProcessResult ensured = vm().target().is_libvirt()
                                    ? run({VPATCH_PROGRAM, "ensure", "--all", "--settle", "2s"})
                                    : ensure();
  ASSERT_EQ(ensured.exit_code, 0) << ensured;
  EXPECT_THAT(vm().guest("cat /proc/cmdline"), HasSubstr("vpatch_demo=1"));

  const json::array list = operations();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list.at(0).at("verb"), "ensure");
  EXPECT_EQ(list.at(0).at("outcome"), "done");
  EXPECT_EQ(list.at(0).at("boot_id").as_string(),
            vm().guest("printf %s $(cat /proc/sys/kernel/random/boot_id)"));
  EXPECT_NE(list.at(0).at("boot_id"), list.at(1).at("boot_id"));
  EXPECT_EQ(list.at(0).at("file_sha256"), list.at(1).at("file_sha256"));

  const ProcessResult reverted = vm().vpatch("revert", {"vpatch_demo_v1"});
  EXPECT_EQ(reverted.exit_code, 0) << reverted;
  EXPECT_THAT(reverted.err, HasSubstr("vpatch_demo_v1 is no longer registered"));
  EXPECT_THAT(ensure().out, HasSubstr("no livepatch is registered"));
  EXPECT_TRUE(fs::is_empty(folder_ / "patches"));
}

TEST_F(EnsureTest, JournalTellsAllAndWhetherItWasChanged) {
  persist();
  const ProcessResult shown = history({"--id", "1"});
  EXPECT_EQ(shown.exit_code, 0) << shown;
  for (const char* text : {"loaded vpatch_demo_v1", "registered", "user", "vpatch_demo_v1"}) {
    EXPECT_THAT(shown.out, HasSubstr(text));
  }
  const std::string exported = folder_ / "export.jsonl";
  ASSERT_EQ(history({"--export", exported}).exit_code, 0);
  EXPECT_EQ(history({"--export", exported}).exit_code, 3) << "it is not written over";
  EXPECT_EQ(history({"--verify", exported}).exit_code, 0);
  EXPECT_EQ(history({"--verify"}).exit_code, 0);
  EXPECT_EQ(history({"--export"}).out, read_file(exported));

  std::string text = read_file(exported);
  text.replace(text.find("loaded vpatch_demo_v1"), 6, "LOADED");
  write_file(exported, text);
  const ProcessResult changed = history({"--verify", exported});
  EXPECT_EQ(changed.exit_code, 3) << changed;
  EXPECT_THAT(changed.out, HasSubstr("was changed"));
  const ProcessResult wrong = history({"--verify", patch_, "--json"});
  EXPECT_EQ(wrong.exit_code, 3) << wrong;
  EXPECT_EQ(json::parse(wrong.out).at("sound"), false);
}

TEST_F(EnsureTest, PatchWhoseGuestCrashedIsHeldBack) {
  persist();
  reboot();
  // Monitor and agent of a plain QEMU serve one client: the guest has to crash by itself.
  vm().guest(
      "touch /run/this-boot; setsid sh -c '"
      "until grep -qs 0 /sys/kernel/livepatch/vpatch_demo_v1/transition; do sleep 1; done; "
      "sleep 5; echo b >/proc/sysrq-trigger' >/dev/null 2>&1 </dev/null &");
  const ProcessResult crashed = vm().vpatch("ensure", {"--settle", "10m"});
  EXPECT_EQ(crashed.exit_code, 8) << crashed;
  EXPECT_THAT(crashed.err, HasSubstr("has rebooted"));
  wait_for_next_boot();
  const ProcessResult held = ensure();
  EXPECT_EQ(held.exit_code, 3) << held;
  EXPECT_THAT(held.err, HasSubstr("held back"));
  EXPECT_EQ(vm().guest("ls /sys/kernel/livepatch"), "");
  const ProcessResult again = ensure({"--retry-failed"});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(vm().guest("ls /sys/kernel/livepatch"), "vpatch_demo_v1\n");
}

TEST_F(EnsureTest, PatchWhoseLoadHasNoEndIsHeldBackAfterAReboot) {
  {
    Process applying(
        vm().vpatch_argv("apply", {patch_, "--persist", "--settle", "10m", "--no-color"}));
    ASSERT_TRUE(eventually([&] {
      return applying.err_so_far().find("verified: ") != std::string::npos;
    })) << applying.err_so_far();
    applying.signal(SIGKILL);
    applying.wait();
  }
  persist();  // in force already: registered, and no load
  reboot();
  const ProcessResult held = ensure({"--json"});
  EXPECT_EQ(held.exit_code, 3) << held;
  EXPECT_EQ(json::parse(held.out).at("findings").at(0).at("id"), "held-back") << held;
}

// libvirt alone: a plain QEMU that is off is no more.
TEST_F(EnsureTest, RegisteredWhileOffIsAppliedOnceItRuns) {
  const Defined defined;
  Defined::power_off();
  for (int again = 0; again < 2; ++again) {
    const ProcessResult put = vm().vpatch("ensure", {"--register", patch_, "--json"});
    ASSERT_EQ(put.exit_code, 0) << put;
    EXPECT_EQ(json::parse(put.out).at("patch"), "vpatch_demo_v1");
  }
  fs::remove(patch_);  // the journal has a copy
  EXPECT_EQ(operations().size(), 1U) << "the second time nothing was done";
  EXPECT_THAT(registered(), testing::ElementsAre("vpatch_demo_v1"));
  const ProcessResult off = ensure();
  EXPECT_EQ(off.exit_code, 6) << off;
  EXPECT_THAT(off.err, HasSubstr("shut off"));

  Defined::power_on();
  ASSERT_THAT(vm().guest("cat /proc/cmdline"), Not(HasSubstr("vpatch_demo=1")));
  const ProcessResult ensured = ensure();
  ASSERT_EQ(ensured.exit_code, 0) << ensured;
  EXPECT_THAT(vm().guest("cat /proc/cmdline"), HasSubstr("vpatch_demo=1"));

  const ProcessResult forgot = vm().vpatch("ensure", {"--forget", "vpatch_demo_v1"});
  EXPECT_EQ(forgot.exit_code, 0) << forgot;
  const ProcessResult again = vm().vpatch("ensure", {"--forget", "vpatch_demo_v1", "--json"});
  EXPECT_EQ(again.exit_code, 3) << again;
  EXPECT_EQ(json::parse(again.out).at("findings").at(0).at("id"), "not-registered") << again;
}

TEST_F(EnsureTest, RevertToAFileRegistersItWhenAsked) {
  persist();
  const ProcessResult newer = vm().vpatch(
      "apply", {module_path("vpatch_nop"), "--persist", "--settle", "0s", "--grace", "1s"});
  ASSERT_EQ(newer.exit_code, 0) << newer;
  ASSERT_THAT(registered(), testing::ElementsAre("vpatch_nop"));
  const ProcessResult back =
      vm().vpatch("revert", {"--to", patch_, "--persist", "--settle", "1s", "--grace", "1s"});
  ASSERT_EQ(back.exit_code, 0) << back;
  EXPECT_THAT(registered(), testing::ElementsAre("vpatch_demo_v1"));
}

TEST_F(EnsureTest, NoJournalStopsNoRepairAndTheExitCodeSaysIt) {
  write_file(journal(), std::string(8192, '?'));
  const ProcessResult applied = vm().vpatch("apply", {patch_, "--json"});
  EXPECT_EQ(applied.exit_code, 9) << applied;
  EXPECT_EQ(vm().guest("ls /sys/kernel/livepatch"), "vpatch_demo_v1\n");
  const json::object report = json::parse(applied.out).as_object();
  EXPECT_EQ(report.at("outcome"), "done");
  EXPECT_EQ(report.at("exit_code"), 9);
  EXPECT_THAT(std::string(report.at("journal_error").as_string()), HasSubstr("not a database"));
  const ProcessResult reverted = vm().vpatch("revert", {"vpatch_demo_v1"});
  EXPECT_EQ(reverted.exit_code, 9) << reverted;
  EXPECT_THAT(reverted.err, HasSubstr("not all of this is written in the journal"));
  EXPECT_EQ(vm().guest("ls /sys/kernel/livepatch"), "");
  EXPECT_EQ(ensure().exit_code, 3) << "what is registered is not known";
  fs::remove(journal());
}

}  // namespace
}  // namespace vpatch::test

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
