// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/vm/answer.h"
#include "tests/vm/introspect_support.h"

namespace vpatch::test {

/// A guest whose transitions are held up and helped along, shared by all tests of it. vpatch_target
/// is loaded; the agent, and so what it starts, keeps to CPU 0: a thread on CPU 1 runs there when a
/// livepatch is loaded.
class AssistTest : public testing::Test {
 public:
  /// Ends that guest; the next of these tests starts another.
  static void drop_vm();

 protected:
  void SetUp() override { before_ = vm().fingerprint(); }
  /// Releases all, takes the livepatch back, and holds the guest against what it was.
  void TearDown() override;

  static TestVm& vm();
  /// What a guest that has just booted needs.
  static void prepare(const TestVm& vm);
  static void target(const std::string& command);
  /// Waits until vpatch_target's file says so: "sleeping=0 blocked=1 spinning=0".
  static bool target_state_is(const std::string& state);
  /// A user process that sleeps in vpatch_target_sleep().
  static void start_sleeper();
  /// Runs a script in the guest that goes on after this has returned: the agent of a plain QEMU
  /// serves nobody else while vpatch is at work.
  static void in_background(const std::string& script);

  /// vpatch VERB --json ARGUMENTS...
  static Answer change(const std::string& verb, const std::vector<std::string>& arguments);
  Answer apply(std::vector<std::string> options) const;
  static Answer revert(std::vector<std::string> options);
  /// A file of /sys/kernel/vpatch, without the newline at its end.
  static std::string shown(const std::string& file);
  static std::string phase();

  std::string before_;
  const std::string patch_ = module_path("vpatch_target_lp");
};

}  // namespace vpatch::test
