// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/test_vm.h"

namespace vpatch::test {
namespace {

std::unique_ptr<TestVm>& holder() {
  static std::unique_ptr<TestVm> vm;
  return vm;
}

class StopSharedVm : public testing::Environment {
 public:
  void TearDown() override { holder().reset(); }
};

}  // namespace

TestVm& shared_vm() {
  if (holder() == nullptr) {
    holder() = std::make_unique<TestVm>(fmt::format("vpatch-test-{}-{}", backend(), kernel()));
    holder()->guest("/sbin/insmod /lib/modules/vpatch/vpatch_target.ko");
  }
  return *holder();
}

}  // namespace vpatch::test

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  testing::AddGlobalTestEnvironment(new vpatch::test::StopSharedVm);  // NOLINT: GoogleTest owns it
  return RUN_ALL_TESTS();
}
