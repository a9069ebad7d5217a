// SPDX-License-Identifier: Apache-2.0
// Whether a real guest is healthy, as `vpatch health` tells.
#include <memory>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/introspect_support.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

class HealthTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cache_folder();
    holder() = std::make_unique<TestVm>(fmt::format("vpatch-health-{}-{}", backend(), kernel()));
  }
  static void TearDownTestSuite() { holder().reset(); }
  static TestVm& vm() { return *holder(); }

  /// Its report; the exit code must be the report's.
  static boost::json::object health(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), "--json");
    const ProcessResult result = vm().vpatch("health", arguments);
    auto report = boost::json::parse(result.out).as_object();
    EXPECT_EQ(number_of(report, "exit_code"), static_cast<std::uint64_t>(result.exit_code))
        << result;
    return report;
  }
  static boost::json::object health_of(std::vector<std::string> command) {
    command.insert(command.begin(), "--");
    return health(command);
  }
  /// Options that hold the guest against how it was in `report`.
  static std::vector<std::string> since(const boost::json::object& report) {
    return {"--since-boot",  text_of(report, "boot_id"),
            "--since-log",   std::to_string(number_of(report, "log_sequence")),
            "--since-taint", std::to_string(number_of(report, "taint"))};
  }
  static std::string check(const boost::json::object& report, std::string_view id) {
    for (const auto& one : report.at("checks").as_array()) {
      if (one.at("id").as_string() == id) {
        return text_of(one.as_object(), "health");
      }
    }
    return "not there";
  }

 private:
  static std::unique_ptr<TestVm>& holder() {
    static std::unique_ptr<TestVm> vm;
    return vm;
  }
};

TEST_F(HealthTest, GuestIsHealthyWithALivepatchToo) {
  const auto mark = health();
  EXPECT_EQ(text_of(mark, "health"), "pass") << mark;
  EXPECT_THAT(text_of(mark, "boot_id"), MatchesRegex("[0-9a-f-]{36}"));
  EXPECT_EQ(mark.at("command"), nullptr);
  ASSERT_EQ(vm().vpatch("apply", {module_path("vpatch_demo_v1")}).exit_code, 0);
  const auto patched = health(since(mark));
  EXPECT_EQ(text_of(patched, "health"), "pass") << patched;
  EXPECT_EQ(text_of(patched, "boot_id"), text_of(mark, "boot_id"));
  EXPECT_GT(number_of(patched, "log_sequence"), number_of(mark, "log_sequence"));
  const auto& patch = patched.at("patches").at(0).as_object();
  EXPECT_EQ(text_of(patch, "name"), "vpatch_demo_v1");
  EXPECT_EQ(text_of(patch, "phase"), "patched");
  EXPECT_EQ(look(vm(), "status").at("patches").at(0).at("build_id"), patch.at("build_id"));
  EXPECT_EQ(text_of(patch, "build_id") + "\n",
            vm().guest("od -An -tx1 -j16 -v /sys/module/vpatch_demo_v1/notes/.note.gnu.build-id | "
                       "tr -d ' \\n'; echo"));
  EXPECT_EQ(vm().vpatch("revert", {"vpatch_demo_v1"}).exit_code, 0);
}

TEST_F(HealthTest, AnotherBootIsSaid) {
  auto words = since(health());
  words[1] = "5bfd0a2c-0000-4000-8000-000000000001";
  const auto report = health(words);
  bool said = false;
  for (const auto& one : report.at("checks").as_array()) {
    said = said || text_of(one.as_object(), "text").find("has rebooted") != std::string::npos;
  }
  EXPECT_TRUE(said) << report;
}

TEST_F(HealthTest, CommandInTheGuestDecides) {
  EXPECT_EQ(text_of(health_of({"true"}), "health"), "pass");
  const auto unhealthy = health_of({"sh", "-c", "echo out; echo err >&2; exit 1"});
  EXPECT_EQ(text_of(unhealthy, "health"), "fail");
  EXPECT_EQ(unhealthy.at("command"),
            (boost::json::value{{"exit_code", 1}, {"output", "out\nerr\n"}}));
  EXPECT_EQ(text_of(health_of({"sh", "-c", "exit 2"}), "health"), "inconclusive");
  EXPECT_EQ(text_of(health_of({"/no/such/program"}), "health"), "inconclusive");
  const auto late = health({"--command-timeout", "1s", "--", "sleep", "100"});
  EXPECT_EQ(text_of(late, "health"), "inconclusive");
  EXPECT_EQ(check(late, "command"), "inconclusive");
  EXPECT_EQ(check(late, "agent"), "pass");
  EXPECT_EQ(late.at("command"), nullptr);
}

TEST_F(HealthTest, PausedGuestIsInconclusive) {
  const auto mark = health();
  vm().monitor("stop");
  const auto paused = health(since(mark));
  vm().monitor("cont");
  EXPECT_EQ(text_of(paused, "health"), "inconclusive") << paused;
  EXPECT_THAT(text_of(paused, "text"), HasSubstr("paused"));
  EXPECT_EQ(check(paused, "memory"), "pass") << "it is looked at all the same";
  EXPECT_EQ(check(paused, "log"), "pass");
  EXPECT_EQ(text_of(health(since(mark)), "health"), "pass");
}

// The last: the guest is of no use afterwards.
TEST_F(HealthTest, WarningOfTheKernelFails) {
  const auto mark = health();
  // What a program writes is not the kernel's.
  vm().guest("echo 'WARNING: CPU: 0 PID: 1 at nothing' >/dev/kmsg");
  EXPECT_EQ(text_of(health(since(mark)), "health"), "pass");
  // It warns some seconds after its load.
  ASSERT_EQ(vm().vpatch("apply", {"--grace", "0", module_path("vpatch_cum_warn")}).exit_code, 0);
  ASSERT_TRUE(eventually([] {
    vm().guest("dmesg | grep -q 'end trace'");
    return true;
  }));
  const auto report = health(since(mark));
  EXPECT_EQ(text_of(report, "health"), "fail") << report;
  EXPECT_EQ(check(report, "log"), "fail");
  EXPECT_EQ(check(report, "taint"), "fail");
  EXPECT_THAT(boost::json::serialize(report.at("kernel_log")),
              HasSubstr("as this module is meant"));
  EXPECT_EQ(text_of(health(since(report)), "health"), "pass") << "a new mark, a new judgement";
}

}  // namespace
}  // namespace vpatch::test
