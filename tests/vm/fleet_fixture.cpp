// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/fleet_fixture.h"

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace vpatch::test {
namespace {

constexpr const char* kStarter = VPATCH_SOURCE_DIR "/images/vm";
constexpr const char* kHost = VPATCH_SOURCE_DIR "/tests/vm/host";
constexpr const char* kBootId = "cat /proc/sys/kernel/random/boot_id";
/// The least is less than 96; the rest is for what is delivered and for tasks.
constexpr const char* kMemoryMib = "160";
/// Many boot at once, with TCG.
constexpr const char* kBootSeconds = "600";
constexpr std::chrono::seconds kUpAgain{180};
constexpr std::chrono::milliseconds kLook{100};

std::string output_of(const std::vector<std::string>& argv) {
  ProcessResult result = run(argv);
  if (result.exit_code != 0) {
    throw std::runtime_error(fmt::format("{}: {}{}", fmt::join(argv, " "), result.out, result.err));
  }
  while (result.out.ends_with('\n')) {
    result.out.pop_back();
  }
  return result.out;
}

std::string libvirt_of(const FleetMember& member) {
  return member.host.empty() ? Target{}.uri : output_of({kHost, "socket", member.host});
}

std::vector<std::string> start_command_of(const FleetMember& member, const std::string& name) {
  auto argv = start_command(
      name, "libvirt", member.kernel,
      {"--memory", kMemoryMib, "--vcpus", "1", "--persistent", "--timeout", kBootSeconds});
  if (!member.host.empty()) {
    argv.insert(argv.begin(), {kHost, "exec", member.host});
  }
  return argv;
}

struct Start {
  FleetMember member;
  std::string name;
  std::unique_ptr<Process> process{};
};

std::unique_ptr<FleetGuest> finish(Start& start) {
  const ProcessResult result = start.process->wait();
  if (result.exit_code != 0) {
    throw std::runtime_error(
        fmt::format("the VM {} did not start: {}{}", start.name, result.out, result.err));
  }
  return std::make_unique<FleetGuest>(std::move(start.member), result);
}

}  // namespace

TestHosts::TestHosts(std::string prefix, std::size_t count) : prefix_(std::move(prefix)) {
  output_of({kHost, "stop-all", prefix_});
  try {
    for (std::size_t index = 0; index < count; ++index) {
      tell(index, "start", {"--vpatch", VPATCH_PROGRAM});
    }
  } catch (...) {
    run({kHost, "stop-all", prefix_});
    throw;
  }
}

TestHosts::~TestHosts() {
  run({kHost, "stop-all", prefix_});
}

std::string TestHosts::name(std::size_t index) const {
  return fmt::format("{}{}", prefix_, index + 1);
}

std::string TestHosts::uri(std::size_t index) const {
  return tell(index, "uri");
}

std::string TestHosts::tell(std::size_t index, const std::string& command,
                            const std::vector<std::string>& arguments) const {
  std::vector<std::string> argv = {kHost, command, name(index)};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return output_of(argv);
}

FleetGuest::FleetGuest(FleetMember member, const ProcessResult& started)
    : member_(std::move(member)), vm_(started, libvirt_of(member_)) {
  prepare();
}

void FleetGuest::prepare() const {
  vm_.guest("/sbin/insmod /lib/modules/vpatch/vpatch_target.ko");
  if (member_.load == FleetLoad::none) {
    return;
  }
  // libvirt's daemons make each QEMU a session, and so an autogroup, of its own. Its command line
  // has the UUID.
  output_of({"sh", "-c",
             "for p in $(pgrep -f -- \"-uuid $1\"); do echo 19 >/proc/$p/autogroup; done", "sh",
             uuid()});
  if (member_.load == FleetLoad::poller) {
    vm_.guest("echo thread poll >/sys/kernel/vpatch_target/control");
    return;
  }
  vm_.guest(
      "for n in 1 2 3 4; do setsid sh -c 'while :; do cat /proc/cmdline; sleep 0.2; done' "
      "</dev/null >/dev/null 2>&1 & done");
}

ProcessResult FleetGuest::virsh(const std::string& command,
                                const std::vector<std::string>& more) const {
  std::vector<std::string> argv = {"virsh", "-q", "-c", vm_.target().uri, command, name()};
  argv.insert(argv.end(), more.begin(), more.end());
  return run(argv);
}

void FleetGuest::must(const std::string& command) const {
  if (const ProcessResult result = virsh(command); result.exit_code != 0) {
    throw std::runtime_error(fmt::format("virsh {} {}: {}", command, name(), result.err));
  }
}

std::string FleetGuest::uuid() const {
  return output_of({"virsh", "-q", "-c", vm_.target().uri, "domuuid", name()}).substr(0, 36);
}

std::optional<std::string> FleetGuest::boot_id() const {
  try {
    return vm_.guest(kBootId).substr(0, 36);
  } catch (const std::runtime_error&) {
    return {};
  }
}

std::string FleetGuest::state() const {
  const std::string text = virsh("domstate").out;
  return text.substr(0, text.find('\n'));
}

void FleetGuest::power_off() const {
  must("destroy");
}
void FleetGuest::start() const {
  must("start");
}
void FleetGuest::reset() const {
  must("reset");
}
void FleetGuest::pause() const {
  must("suspend");
}
void FleetGuest::resume() const {
  must("resume");
}

void FleetGuest::hang_agent(std::chrono::seconds length) const {
  vm_.guest(
      fmt::format("p=$(pidof qemu-ga); setsid sh -c \"sleep 1; kill -STOP $p; sleep {}; "
                  "kill -CONT $p\" >/dev/null 2>&1 &",
                  length.count()));
}

void FleetGuest::kill_vmm() const {
  if (member_.host.empty()) {
    output_of({"pkill", "-KILL", "-f", "--", "-uuid " + uuid()});
  }
}

void FleetGuest::wait_until_up(const std::string& former) const {
  const auto is_up = [this, &former] {
    std::this_thread::sleep_for(kLook);  // the CPU is the guest's
    const auto now = boot_id();
    return now && *now != former;
  };
  if (!eventually(is_up, kUpAgain)) {
    throw std::runtime_error(fmt::format("{} does not answer", name()));
  }
  if (vm_.guest("[ -d /sys/module/vpatch_target ] || echo no") == "no\n") {
    prepare();
  }
}

TestFleet::TestFleet(std::string prefix, const std::vector<FleetMember>& members,
                     std::size_t at_once)
    : prefix_(std::move(prefix)) {
  remove_all();
  std::vector<Start> starts;
  for (const FleetMember& member : members) {
    starts.push_back({member, fmt::format("{}-{:02}", prefix_, starts.size())});
  }
  try {
    std::size_t next = 0;
    const auto busy = [&starts] {
      return std::ranges::count_if(starts, [](const Start& start) {
        return start.process != nullptr && start.process->running();
      });
    };
    while (next < starts.size()) {
      if (std::cmp_less(busy(), at_once)) {
        Start& start = starts.at(next++);
        start.process = std::make_unique<Process>(start_command_of(start.member, start.name));
      } else {
        std::this_thread::sleep_for(kLook);
      }
    }
    for (Start& start : starts) {
      guests_.push_back(finish(start));
    }
  } catch (...) {
    starts.clear();  // ends those that still start
    remove_all();
    throw;
  }
}

TestFleet::~TestFleet() {
  remove_all();
}

void TestFleet::remove_all() const {
  run({kStarter, "stop-all", "--name", prefix_ + "-"});
}

std::vector<FleetMember> mixed_fleet(std::size_t count) {
  std::vector<FleetMember> members;
  for (std::size_t index = 0; index < count; ++index) {
    members.push_back({index % 2 == 0 ? "6.1" : "6.12"});
  }
  return members;
}

}  // namespace vpatch::test
