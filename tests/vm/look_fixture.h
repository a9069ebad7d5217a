// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "tests/vm/introspect_support.h"

namespace vpatch::test {

/// A guest that is looked into, shared by all tests of it; vpatch_target is loaded.
class LookTest : public testing::Test {
 public:
  /// Ends that guest; the next of these tests starts another.
  static void drop_vm();

 protected:
  static TestVm& vm();
  /// Waits until vpatch_target's file says so: "sleeping=0 blocked=1 spinning=0".
  static bool target_state_is(const std::string& state);
  static void target(const std::string& command);
};

}  // namespace vpatch::test
