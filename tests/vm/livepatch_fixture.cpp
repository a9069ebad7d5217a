// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/livepatch_fixture.h"

#include <chrono>
#include <stdexcept>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace vpatch::test {
namespace {

// Without vpatch: what it does wrong must not hide itself.
constexpr const char* kCleanGuest = R"sh(
livepatches() { awk '$NF ~ /^\(.*K/ { print $1 }' /proc/modules; }
echo release >/sys/kernel/vpatch_target/control
echo stop >/sys/kernel/vpatch_pair/control
tries=0
while [ -n "$(livepatches)" ]; do
  for file in /sys/kernel/livepatch/*/enabled; do
    [ "$(cat "$file")" = 1 ] && echo 0 >"$file"
  done
  for module in $(livepatches); do /sbin/rmmod "$module"; done
  tries=$((tries + 1))
  [ $tries -lt 100 ] || exit 1
  sleep 0.1
done 2>/dev/null
for module in vpatch_pair vpatch_twins; do
  [ ! -d /sys/module/$module ] || /sbin/rmmod $module
done
[ -d /sys/module/vpatch_target ] || /sbin/insmod /lib/modules/vpatch/vpatch_target.ko
)sh";

boost::json::array log_records(const TestVm& vm) {
  return look(vm, "log").at("records").as_array();
}

}  // namespace

std::string list(const boost::json::object& report, const std::string& field) {
  return boost::json::serialize(report.at(field));
}

void LivepatchTest::SetUp() {
  AssistTest::SetUp();
  const auto records = log_records(vm());
  log_mark_ = records.empty() ? 0 : number_of(records.back().as_object(), "sequence") + 1;
}

void LivepatchTest::TearDown() {
  try {
    clean_guest();
  } catch (const std::runtime_error& error) {
    ADD_FAILURE() << error.what();
    reboot();  // the other tests are not to suffer
  }
  EXPECT_EQ(vm().fingerprint(), before_);
  EXPECT_EQ(vm().trouble(), "");
}

Answer LivepatchTest::apply_patch(const std::string& patch, std::vector<std::string> options) {
  options.push_back(module_path(patch));
  return change("apply", options);
}

Answer LivepatchTest::revert_patch(const std::string& patch, std::vector<std::string> options) {
  options.push_back(patch);
  return change("revert", options);
}

boost::json::object LivepatchTest::history(const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {vm().vpatch_argv("history", {}).front(), "history", "--json"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  const ProcessResult result = run(argv);
  boost::system::error_code error;
  const auto report = boost::json::parse(result.out, error);
  if (error) {
    throw std::runtime_error("vpatch history: " + result.err);
  }
  return report.as_object();
}

void LivepatchTest::insmod(const std::string& module) {
  vm().guest(fmt::format("/sbin/insmod /lib/modules/vpatch/{}.ko", module));
}

void LivepatchTest::rmmod(const std::string& module) {
  vm().guest("/sbin/rmmod " + module);
}

std::string LivepatchTest::refused_insmod(const std::string& module) {
  return vm().guest(
      fmt::format("/sbin/insmod /lib/modules/vpatch/{}.ko 2>&1 && exit 1; true", module));
}

void LivepatchTest::block() {
  target("thread block");
  ASSERT_TRUE(target_state_is("sleeping=0 blocked=1 spinning=0"));
}

std::string LivepatchTest::in_force() {
  return vm().guest("ls /sys/kernel/livepatch | tr '\\n' ' '");
}

bool LivepatchTest::is_loaded(const std::string& module) {
  return vm().guest(fmt::format("[ -d /sys/module/{} ] && echo yes || true", module)) == "yes\n";
}

std::string LivepatchTest::cmdline() {
  return vm().guest("cat /proc/cmdline");
}

boost::json::object LivepatchTest::patch_status(const std::string& patch) {
  const auto status = look(vm(), "status");
  for (const auto& one : status.at("patches").as_array()) {
    if (text_of(one.as_object(), "name") == patch) {
      return one.as_object();
    }
  }
  throw std::runtime_error("status does not list " + patch);
}

std::string LivepatchTest::transition_status() {
  const auto status = look(vm(), "status");
  const auto* transition = status.at("transition").if_object();
  return transition == nullptr
             ? "none"
             : text_of(*transition, "direction") + " " + text_of(*transition, "patch");
}

std::vector<std::string> LivepatchTest::logged(const std::string& text) const {
  std::vector<std::string> texts;
  for (const auto& value : log_records(vm())) {
    const auto& record = value.as_object();
    std::string line = text_of(record, "text");
    if (number_of(record, "sequence") >= log_mark_ && line.find(text) != std::string::npos) {
      texts.push_back(std::move(line));
    }
  }
  return texts;
}

std::vector<std::string> LivepatchTest::callbacks() const {
  std::vector<std::string> texts;
  for (std::string& line : logged("patch: ")) {
    if (line.starts_with("vpatch_callbacks")) {
      texts.push_back(std::move(line));
    }
  }
  return texts;
}

void LivepatchTest::clean_guest() {
  vm().guest(kCleanGuest);
}

void LivepatchTest::reboot() {
  vm().guest("touch /run/this-boot");
  vm().monitor("system_reset");
  if (!eventually([] { return vm().guest("[ -e /run/this-boot ] || echo new") == "new\n"; },
                  std::chrono::seconds(180))) {
    throw std::runtime_error("the guest did not boot again");
  }
  prepare(vm());
  log_mark_ = 0;
}

}  // namespace vpatch::test
