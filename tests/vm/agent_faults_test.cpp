// SPDX-License-Identifier: Apache-2.0
// Everything that can be wrong between host and agent: exit code 6, a message, and a guest that is
// as before.
#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "introspect/memory/unique_fd.h"
#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

void expect_unreachable(const ProcessResult& result, const std::string& message,
                        const std::string& row) {
  EXPECT_EQ(result.exit_code, 6) << result;
  EXPECT_THAT(result.err, HasSubstr(message)) << result;
  fmt::print("table | {} | {} | {}", row, result.exit_code, result.err);
}

/// A Unix socket whose owner never reads, accepts or answers.
class SilentListener {
 public:
  explicit SilentListener(std::string path)
      : path_(std::move(path)), fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::filesystem::remove(path_);
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets API
    if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(fd_.get(), 8) != 0) {
      throw std::runtime_error("cannot listen on " + path_);
    }
  }
  SilentListener(const SilentListener&) = delete;
  SilentListener& operator=(const SilentListener&) = delete;
  ~SilentListener() { std::filesystem::remove(path_); }

 private:
  std::string path_;
  introspect::UniqueFd fd_;
};

std::string patch() {
  return module_path("vpatch_demo_v1");
}

TEST(AgentFaults, AgentThatDoesNotRun) {
  const TestVm vm("vpatch-test-noagent-" + backend(), {"--append", "vpatch.agent=off"});
  expect_unreachable(vm.vpatch("apply", {"--agent-timeout", "3", patch()}), "agent",
                     "agent not running");
}

TEST(AgentFaults, DomainWithoutAgentChannel) {
  const TestVm vm("vpatch-test-nochannel-" + backend(), {"--no-agent-channel"});
  if (backend() == "qemu") {
    const ProcessResult result = run({vm.vpatch_argv("apply", {}).front(), "apply", "--qmp",
                                      vm.target().qmp, "--qga", "/nonexistent/qga", patch()});
    expect_unreachable(result, "/nonexistent/qga", "agent socket missing");
    return;
  }
  expect_unreachable(vm.vpatch("apply", {patch()}), "agent", "no agent channel");
}

TEST(AgentFaults, CommandThatTheAgentBlocks) {
  const TestVm vm("vpatch-test-blocked-" + backend(),
                  {"--append", "vpatch.agent_block=guest-exec"});
  expect_unreachable(vm.vpatch("apply", {patch()}), "guest-exec", "agent blocks guest-exec");
  const ProcessResult doctor = vm.vpatch("doctor");
  EXPECT_EQ(doctor.exit_code, 6) << doctor;
  EXPECT_THAT(doctor.out, HasSubstr("blocks: guest-exec")) << doctor;
}

class LivingAgentTest : public testing::Test {
 protected:
  TestVm& vm_ = shared_vm();
};

TEST_F(LivingAgentTest, AgentThatFallsSilent) {
  const std::string before = vm_.fingerprint();
  // Stopped by a process of its own, which also wakes it again: the test ends with a guest that
  // answers.
  vm_.guest(
      "p=$(pidof qemu-ga); setsid sh -c \"sleep 1; kill -STOP $p; sleep 25; kill -CONT $p\" "
      ">/dev/null 2>&1 &");
  ProcessResult result;
  ASSERT_TRUE(eventually([&] {
    result = vm_.vpatch("apply", {"--dry-run", "--agent-timeout", "3", patch()});
    return result.exit_code != 0;
  }));
  expect_unreachable(result, "agent", "agent silent");
  ASSERT_TRUE(eventually(
      [&] { return vm_.vpatch("status", {"--agent", "--agent-timeout", "3"}).exit_code == 0; },
      std::chrono::seconds(120)));
  EXPECT_EQ(vm_.fingerprint(), before);
}

TEST_F(LivingAgentTest, AgentThatDiesInTheMiddleOfTheTransfer) {
  const std::string before = vm_.fingerprint();
  // Waits for the first bytes of the delivered file, and kills the agent that writes it; init
  // starts a new one.
  vm_.guest(
      "setsid sh -c 'until [ -s /run/vpatch-delivery/vpatch_demo_v1.ko ]; do :; done; kill -9 "
      "$(pidof "
      "qemu-ga)' >/dev/null 2>&1 &");
  const std::string large = padded_module("vpatch_demo_v1", std::size_t{8} << 20);
  const ProcessResult result = vm_.vpatch("apply", {"--agent-timeout", "10", large});
  std::filesystem::remove(large);
  expect_unreachable(result, "the guest is as before", "agent dies in the transfer");
  ASSERT_TRUE(eventually([&] { return vm_.vpatch("status", {"--agent"}).exit_code == 0; }));
  EXPECT_EQ(vm_.fingerprint(), before);
  const ProcessResult again = vm_.vpatch("apply", {patch()});
  EXPECT_EQ(again.exit_code, 0) << again;
  EXPECT_EQ(vm_.vpatch("revert").exit_code, 0);
}

TEST(AgentFaults, LibvirtThatIsDown) {
  if (backend() != "libvirt") {
    const ProcessResult result =
        run({shared_vm().vpatch_argv("apply", {}).front(), "apply", "--qmp", "/nonexistent/qmp",
             "--qga", "/nonexistent/qga", patch()});
    expect_unreachable(result, "/nonexistent/qmp", "monitor socket missing");
    return;
  }
  const ProcessResult result =
      run({shared_vm().vpatch_argv("apply", {}).front(), "apply", "--connect",
           "qemu+unix:///system?socket=/nonexistent/libvirt-sock", "--domain", "web01", patch()});
  expect_unreachable(result, "libvirt", "libvirt down");
}

TEST(AgentFaults, LibvirtThatFallsSilent) {
  // A daemon that accepts and then says nothing; `nc` would do, but a stopped listener needs no
  // package.
  const std::string path = testing::TempDir() + "vpatch-silent-" + backend();
  SilentListener listener(path);
  const ProcessResult result =
      backend() == "libvirt"
          ? run({shared_vm().vpatch_argv("apply", {}).front(), "apply", "--agent-timeout", "2",
                 "--connect", "qemu+unix:///system?socket=" + path, "--domain", "web01", patch()})
          : run({shared_vm().vpatch_argv("apply", {}).front(), "apply", "--agent-timeout", "2",
                 "--qmp", path, "--qga", path, patch()});
  expect_unreachable(result, path, "silent hypervisor");
}

TEST(AgentFaults, PlainQemuThatIsPaused) {
  if (backend() != "qemu") {
    return;  // with libvirt: the test below
  }
  const TestVm& vm = shared_vm();
  vm.monitor("stop");
  const ProcessResult paused = vm.vpatch("apply", {patch()});
  vm.monitor("cont");
  expect_unreachable(paused, "is paused", "VM paused");
}

TEST(AgentFaults, DomainThatIsShutOffOrPaused) {
  if (backend() != "libvirt") {
    return;  // a plain QEMU that is off has no socket: LibvirtThatIsDown; paused: the test above
  }
  const TestVm& vm = shared_vm();
  ASSERT_EQ(run({"virsh", "suspend", vm.name()}).exit_code, 0);
  const ProcessResult paused = vm.vpatch("apply", {patch()});
  ASSERT_EQ(run({"virsh", "resume", vm.name()}).exit_code, 0);
  expect_unreachable(paused, "is paused", "domain paused");

  const std::string xml = std::string(testing::TempDir()) + "vpatch-off.xml";
  const ProcessResult printed = run({"virsh", "dumpxml", "--inactive", vm.name()});
  std::string text = printed.out;
  text.replace(text.find("<name>" + vm.name()), 6 + vm.name().size(), "<name>vpatch-test-off");
  text.erase(text.find("<uuid>"), text.find("</uuid>") + 7 - text.find("<uuid>"));
  write_file(xml, text);
  ASSERT_EQ(run({"virsh", "define", xml}).exit_code, 0);
  const ProcessResult off =
      run({vm.vpatch_argv("apply", {}).front(), "apply", "--domain", "vpatch-test-off", patch()});
  EXPECT_EQ(run({"virsh", "undefine", "vpatch-test-off"}).exit_code, 0);
  expect_unreachable(off, "is shut off", "domain shut off");
}

}  // namespace
}  // namespace vpatch::test
