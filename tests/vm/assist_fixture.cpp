// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/assist_fixture.h"

#include <filesystem>
#include <memory>

#include <boost/json.hpp>
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
    AssistTest::drop_vm();
    std::filesystem::remove_all(cache_folder());
  }
};

// GoogleTest owns it.
[[maybe_unused]] const testing::Environment* const kLeaveNothing =
    testing::AddGlobalTestEnvironment(new LeaveNothing);

}  // namespace

void AssistTest::drop_vm() {
  holder().reset();
}

TestVm& AssistTest::vm() {
  if (holder() == nullptr) {
    cache_folder();
    holder() = std::make_unique<TestVm>(
        fmt::format("vpatch-{}-{}-{}", VPATCH_TEST_GUEST, backend(), kernel()));
    prepare(*holder());
  }
  return *holder();
}

void AssistTest::prepare(const TestVm& vm) {
  vm.guest(
      "/sbin/insmod /lib/modules/vpatch/vpatch_target.ko && "
      "for t in /proc/$(pidof qemu-ga)/task/*; do taskset -p 1 ${t##*/} || exit 1; done");
}

void AssistTest::TearDown() {
  target("release");
  const Answer back = revert({});
  EXPECT_EQ(back.exit_code, 0) << back;
  EXPECT_EQ(vm().fingerprint(), before_);
  EXPECT_EQ(vm().trouble(), "");
}

void AssistTest::target(const std::string& command) {
  vm().guest(fmt::format("echo {} >/sys/kernel/vpatch_target/control", command));
}

bool AssistTest::target_state_is(const std::string& state) {
  return eventually(
      [&state] { return vm().guest("cat /sys/kernel/vpatch_target/state") == state + "\n"; });
}

void AssistTest::start_sleeper() {
  in_background("echo sleep >/sys/kernel/vpatch_target/control");
  EXPECT_TRUE(target_state_is("sleeping=1 blocked=0 spinning=0"));
}

void AssistTest::in_background(const std::string& script) {
  vm().guest(fmt::format("setsid sh -c '{}' >/dev/null 2>&1 </dev/null &", script));
}

Answer AssistTest::change(const std::string& verb, const std::vector<std::string>& arguments) {
  return ask(vm(), verb, arguments);
}

Answer AssistTest::apply(std::vector<std::string> options) const {
  options.push_back(patch_);
  return change("apply", options);
}

Answer AssistTest::revert(std::vector<std::string> options) {
  options.emplace_back("vpatch_target_lp");
  return change("revert", options);
}

std::string AssistTest::shown(const std::string& file) {
  std::string text = vm().guest("cat /sys/kernel/vpatch/" + file);
  text.resize(text.empty() ? 0 : text.size() - 1);
  return text;
}

std::string AssistTest::phase() {
  const auto status = look(vm(), "status");
  const auto& patches = status.at("patches").as_array();
  return patches.empty() ? "none" : text_of(patches.at(0).as_object(), "phase");
}

}  // namespace vpatch::test
