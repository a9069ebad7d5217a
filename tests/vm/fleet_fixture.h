// SPDX-License-Identifier: Apache-2.0
// A fleet of small guests for the tests of rollouts, and other hosts for some of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/vm/subprocess.h"
#include "tests/vm/test_vm.h"

namespace vpatch::test {

/// What a guest is busy with. Its QEMU then has the least share of the CPU, where autogroups are
/// there (/proc/PID/autogroup); on two cores two pollers still make work on the others three times
/// slower.
enum class FleetLoad : std::uint8_t {
  none,
  poller,   ///< a kernel thread that never sleeps: the stock kernel of 6.1 cannot patch it
  readers,  ///< tasks that read /proc/cmdline some times a second, and so run changed functions
};

/// Hosts beside this one, by tests/vm/host: "PREFIX1" and so on. Removed at the end, with all
/// guests on them; first of all what a killed run has left.
class TestHosts {
 public:
  TestHosts(std::string prefix, std::size_t count);
  TestHosts(const TestHosts&) = delete;
  TestHosts& operator=(const TestHosts&) = delete;
  ~TestHosts();

  std::string name(std::size_t index) const;
  /// What a plan calls its connection: qemu+ssh://...
  std::string uri(std::size_t index) const;
  /// tests/vm/host COMMAND NAME ARGUMENTS..., such as hang, thaw, unplug, plug, drop, die, start.
  /// What it prints, without the newline; throws when it fails.
  std::string tell(std::size_t index, const std::string& command,
                   const std::vector<std::string>& arguments = {}) const;

 private:
  std::string prefix_;
};

struct FleetMember {
  std::string kernel;  ///< "6.1" or "6.12"
  FleetLoad load = FleetLoad::none;
  std::string host{};  ///< of TestHosts; empty: this one
};

/// A persistent libvirt domain of one vCPU. vpatch_target is loaded in it.
class FleetGuest {
 public:
  /// `started`: what images/vm printed.
  FleetGuest(FleetMember member, const ProcessResult& started);

  const std::string& name() const { return vm_.name(); }
  const std::string& kernel() const { return member_.kernel; }
  const FleetMember& member() const { return member_; }
  /// guest(), deliver(), fingerprint(), trouble(), and on this host vpatch().
  const TestVm& vm() const { return vm_; }
  /// Of one of our modules, built for this guest's kernel.
  std::string module(const std::string& name) const { return module_path(name, kernel()); }
  std::string uuid() const;
  /// Changes with each boot; nothing when the guest does not answer.
  std::optional<std::string> boot_id() const;
  /// As libvirt shows it: "running", "paused", "shut off".
  std::string state() const;

  // None of these waits for the guest.
  void power_off() const;  ///< as by the mains
  void start() const;
  void reset() const;
  void pause() const;
  void resume() const;
  /// The agent is stopped a second from now, for so long, and then goes on.
  void hang_agent(std::chrono::seconds length) const;
  /// Kills its QEMU, so that libvirt finds it crashed. Only on this host.
  void kill_vmm() const;

  /// Waits until it answers, of another boot than `former`, and makes it again what the constructor
  /// made it. Throws when it does not within three minutes.
  void wait_until_up(const std::string& former = {}) const;

 private:
  ProcessResult virsh(const std::string& command, const std::vector<std::string>& more = {}) const;
  void must(const std::string& command) const;
  void prepare() const;

  FleetMember member_;
  TestVm vm_;
};

/// Boots its guests, `at_once` of them at a time; they are named PREFIX-00 and so on. Ends and
/// removes them at the end; first of all what a killed run has left under that prefix. Throws when
/// one does not come up.
class TestFleet {
 public:
  TestFleet(std::string prefix, const std::vector<FleetMember>& members, std::size_t at_once = 8);
  TestFleet(const TestFleet&) = delete;
  TestFleet& operator=(const TestFleet&) = delete;
  ~TestFleet();

  std::size_t size() const { return guests_.size(); }
  const FleetGuest& operator[](std::size_t index) const { return *guests_.at(index); }
  auto begin() const { return guests_.begin(); }  ///< of pointers to guests
  auto end() const { return guests_.end(); }

 private:
  void remove_all() const;

  std::string prefix_;
  std::vector<std::unique_ptr<FleetGuest>> guests_;
};

/// `count` guests of 6.1 and 6.12 in turn.
std::vector<FleetMember> mixed_fleet(std::size_t count);

}  // namespace vpatch::test
