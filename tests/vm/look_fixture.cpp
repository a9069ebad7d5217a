// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/look_fixture.h"

#include <filesystem>
#include <memory>

#include <fmt/format.h>

namespace vpatch::test {
namespace {

std::unique_ptr<TestVm>& holder() {
  static std::unique_ptr<TestVm> vm;
  return vm;
}

class LeaveNothing : public testing::Environment {
 public:
  void TearDown() override {
    LookTest::drop_vm();
    std::filesystem::remove_all(cache_folder());
  }
};

// GoogleTest owns it.
[[maybe_unused]] const testing::Environment* const kLeaveNothing =
    testing::AddGlobalTestEnvironment(new LeaveNothing);

}  // namespace

TestVm& LookTest::vm() {
  if (holder() == nullptr) {
    cache_folder();
    holder() = std::make_unique<TestVm>(fmt::format("vpatch-look-{}-{}", backend(), kernel()));
    holder()->guest("/sbin/insmod /lib/modules/vpatch/vpatch_target.ko");
  }
  return *holder();
}

void LookTest::drop_vm() {
  holder().reset();
}

bool LookTest::target_state_is(const std::string& state) {
  return eventually(
      [&state] { return vm().guest("cat /sys/kernel/vpatch_target/state") == state + "\n"; });
}

void LookTest::target(const std::string& command) {
  vm().guest(fmt::format("echo {} >/sys/kernel/vpatch_target/control", command));
}

}  // namespace vpatch::test
