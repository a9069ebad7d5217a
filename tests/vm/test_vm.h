// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <sys/types.h>

#include "qmp/guest_agent.h"
#include "tests/vm/subprocess.h"
#include "vmm-agent/domain/domain.h"

namespace vpatch::test {

/// "libvirt" or "qemu", and "6.1" or "6.12": what this test program runs on (VPATCH_VM_BACKEND,
/// VPATCH_VM_KERNEL).
std::string backend();
std::string kernel();

/// A real guest, booted by images/vm. Throws when it does not come up: a test on a VM fails, it
/// never skips.
class TestVm {
 public:
  explicit TestVm(const std::string& name, const std::vector<std::string>& extra_flags = {});
  /// A guest that `images/vm start` has started: what that printed. `uri` is its libvirt.
  explicit TestVm(const ProcessResult& started, const std::string& uri = Target{}.uri);
  TestVm(const TestVm&) = delete;
  TestVm& operator=(const TestVm&) = delete;
  ~TestVm();

  const std::string& name() const { return name_; }
  const Target& target() const { return target_; }
  /// Process id of its QEMU.
  pid_t pid() const { return pid_; }
  /// --domain NAME, or --qmp PATH --qga PATH.
  std::vector<std::string> target_flags() const;

  /// Runs a shell command in the guest, beside vpatch, and returns what it printed. Throws when it
  /// fails.
  std::string guest(const std::string& command) const;
  /// Runs a command on the VM's monitor, such as "stop" or "cont", and returns its answer.
  boost::json::value monitor(const std::string& command,
                             const boost::json::object& arguments = {}) const;
  /// Copies a file of the host into the guest.
  void deliver(const std::string& host_path, const std::string& guest_path) const;
  /// vpatch VERB <target flags> ARGUMENTS...
  std::vector<std::string> vpatch_argv(const std::string& verb,
                                       const std::vector<std::string>& arguments) const;
  ProcessResult vpatch(const std::string& verb,
                       const std::vector<std::string>& arguments = {}) const;

  /// All that an operation must leave as it found it: livepatches, their modules, files, tasks'
  /// text.
  std::string fingerprint() const;
  /// Lines of the guest's log that tell of trouble, one text.
  std::string trouble() const;

 private:
  /// Calls `use` with a guest agent connected for this call only: its socket serves one client at a
  /// time.
  void with_agent(const std::function<void(qmp::GuestAgent&, const qmp::CallOptions&)>& use) const;

  void adopt(const ProcessResult& started, const std::string& uri);

  std::string name_;
  std::string backend_;
  Target target_;
  pid_t pid_ = -1;
};

/// images/vm start FLAGS..., of one guest.
std::vector<std::string> start_command(const std::string& name, const std::string& on_backend,
                                       const std::string& with_kernel,
                                       const std::vector<std::string>& flags);

/// The guest that all tests of vm_test share.
TestVm& shared_vm();

/// Path of one of our kernel modules, built for kernel() or for `other_kernel`.
std::string module_path(const std::string& name, const std::string& other_kernel = {});

/// A copy of one of our modules with a section of `bytes` more that no loader looks at, so that its
/// delivery takes long. The caller removes the file.
std::string padded_module(const std::string& name, std::size_t bytes);

/// Asks `condition` until it holds (one that throws does not, yet); false when it did not within
/// `limit`.
bool eventually(const std::function<bool()>& condition,
                std::chrono::seconds limit = std::chrono::seconds(60));

/// Everything about a finished program, for failure messages.
std::ostream& operator<<(std::ostream& out, const ProcessResult& result);

}  // namespace vpatch::test
