// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/rollout_fixture.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace vpatch::test {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds kLook{50};
constexpr std::chrono::seconds kComes{240};
/// In the guest's log, where a test begins.
constexpr const char* kBegin = "vpatch-test-begins";

std::string text_of(const json::object& object, std::string_view key) {
  const json::value& value = object.at(key);
  return value.is_string() ? std::string(value.get_string()) : std::string();
}

std::string release_of(const std::string& kernel) {
  const char* images = std::getenv("VPATCH_IMAGES");  // NOLINT(concurrency-mt-unsafe)
  const std::string folder = images != nullptr ? images : VPATCH_SOURCE_DIR "/build/images";
  std::istringstream words(read_file(fmt::format("{}/{}/release", folder, kernel)));
  std::string release;
  words >> release;
  return release;
}

/// A process and all that it has started, the parents first, but for guardians.
std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> tree = {root};
  for (std::size_t at = 0; at < tree.size(); ++at) {
    std::istringstream children(read_file(fmt::format("/proc/{0}/task/{0}/children", tree[at])));
    for (pid_t child = 0; children >> child;) {
      if (read_file(fmt::format("/proc/{}/cmdline", child)).find("guardian") == std::string::npos) {
        tree.push_back(child);
      }
    }
  }
  return tree;
}

/// The words of states that need none have their meaning alone.
bool needs_text(const std::string& state) {
  static const std::set<std::string> kNeed = {"off",     "unmatched",    "failed",
                                              "unknown", "inconclusive", "left-alone"};
  return kNeed.contains(state);
}

}  // namespace

std::string plan_for(const FleetGuests& guests, const std::string& patch,
                     const std::vector<std::string>& files_for) {
  std::string plan = "files:\n";
  for (const std::string& kernel : files_for) {
    plan += fmt::format("  - {{kernel: {}, file: {}}}\n", release_of(kernel),
                        std::filesystem::absolute(module_path(patch, kernel)).string());
  }
  plan += "connections: [\"qemu:///system\"]\ndomains:\n  names:\n";
  for (const FleetGuest* guest : guests) {
    plan += fmt::format("    - {}\n", guest->name());
  }
  return plan;
}

Rollout::Rollout(const std::filesystem::path& folder, std::string name, const std::string& plan)
    : name_(std::move(name)), plan_(folder / (name_ + ".yaml")) {
  write_file(plan_, fmt::format("name: {}\n{}", name_, plan));
}

std::vector<std::string> Rollout::argv(const std::string& verb,
                                       const std::vector<std::string>& flags) const {
  std::vector<std::string> words = {VPATCH_PROGRAM, "rollout", verb,
                                    verb == "start" ? plan_ : name_, "--json"};
  words.insert(words.end(), flags.begin(), flags.end());
  return words;
}

void Rollout::drive(const std::string& verb) {
  driver_ = std::make_unique<Process>(argv(verb, {}));
}

ProcessResult Rollout::end() {
  return driver_->wait();
}

ProcessResult Rollout::drive_to_end(const std::string& verb) {
  drive(verb);
  return end();
}

void Rollout::kill_driver() {
  driver_->signal(SIGKILL);
  driver_->wait();
}

void Rollout::kill_all() {
  const auto tree = tree_of(driver_->pid());
  for (const pid_t each : tree) {
    kill(each, SIGKILL);
  }
  driver_->wait();
}

ProcessResult Rollout::tell(const std::string& verb, const std::vector<std::string>& flags) const {
  return run(argv(verb, flags));
}

std::vector<RolloutNews> Rollout::news() const {
  std::vector<RolloutNews> all;
  std::istringstream lines(driver_ ? driver_->out_so_far() : "");
  for (std::string line; std::getline(lines, line) && !lines.eof();) {  // whole ones only
    const json::object event = json::parse(line).as_object();
    if (event.contains("kind")) {
      all.push_back({text_of(event, "domain"), text_of(event, "kind"), text_of(event, "text")});
    }
  }
  return all;
}

bool Rollout::comes(const std::string& kind, const std::string& domain) {
  const auto give_up = std::chrono::steady_clock::now() + kComes;
  for (;;) {
    const bool runs = is_driven();
    if (std::ranges::any_of(news(), [&](const RolloutNews& each) {
          return each.kind == kind && (domain.empty() || each.domain == domain);
        })) {
      return true;
    }
    if (!runs || std::chrono::steady_clock::now() >= give_up) {
      return false;
    }
    std::this_thread::sleep_for(kLook);  // the CPU is the guests'
  }
}

json::object Rollout::status() const {
  const ProcessResult result = tell("status");
  EXPECT_EQ(result.exit_code, 0) << result;
  return json::parse(result.out).as_object();
}

std::map<std::string, RolloutDomainStatus> Rollout::domains() const {
  std::map<std::string, RolloutDomainStatus> all;
  const json::object now = status();
  for (const json::value& each : now.at("domains").as_array()) {
    const json::object& domain = each.as_object();
    all[text_of(domain, "name")] = {.state = text_of(domain, "state"),
                                    .text = text_of(domain, "text"),
                                    .wave = domain.at("wave").to_number<std::uint64_t>(),
                                    .in_force = domain.at("in_force").as_bool()};
  }
  return all;
}

bool has_in_force(const FleetGuest& guest, const std::string& patch) {
  return guest.vm().guest(fmt::format(
             "cd /sys/kernel/livepatch/{} 2>/dev/null && cat enabled transition || :", patch)) ==
         "1\n0\n";
}

std::uint64_t loads_of(const FleetGuest& guest, const std::string& patch) {
  return std::stoul(
      guest.vm().guest(fmt::format("dmesg | sed -n -e '/{}/{{h;d}}' -e H -e '${{x;p}}' | "
                                   "grep -c \"livepatch: enabling patch '{}'\" || :",
                                   kBegin, patch)));
}

Applies applies_of(const FleetGuest& guest, const std::string& patch) {
  const ProcessResult result = run({VPATCH_PROGRAM, "history", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result;
  Applies applies;
  const json::object history = json::parse(result.out).as_object();
  for (const json::value& each : history.at("operations").as_array()) {
    const json::object& operation = each.as_object();
    if (text_of(operation, "verb") == "apply" && text_of(operation, "domain") == guest.name() &&
        text_of(operation, "patch") == patch) {
      ++(text_of(operation, "outcome") == "done" ? applies.done : applies.cut_off);
    }
  }
  return applies;
}

std::vector<std::string> registered_for(const FleetGuest& guest) {
  const ProcessResult result = guest.vm().vpatch("ensure", {"--list", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result;
  std::vector<std::string> names;
  const json::object listed = json::parse(result.out).as_object();
  for (const json::value& one : listed.at("registrations").as_array()) {
    names.emplace_back(one.at("patch").as_string());
  }
  return names;
}

void expect_explained(const Rollout& rollout, const FleetGuests& guests, const std::string& patch) {
  static const std::set<std::string> kEnds = {"off",    "unmatched", "done",      "already",
                                              "failed", "reverted",  "left-alone"};
  static const std::set<std::string> kInForce = {"done", "already"};
  const auto domains = rollout.domains();
  EXPECT_EQ(domains.size(), guests.size());
  for (const FleetGuest* guest : guests) {
    const auto found = domains.find(guest->name());
    if (found == domains.end()) {
      ADD_FAILURE() << guest->name() << " is lost";
      continue;
    }
    const auto& [name, domain] = *found;
    const std::string all =
        fmt::format("{} of {}: {}: {}", name, rollout.name(), domain.state, domain.text);
    EXPECT_TRUE(kEnds.contains(domain.state)) << all;
    EXPECT_TRUE(!needs_text(domain.state) || !domain.text.empty()) << all;
    if (guest->state() != "running") {
      continue;
    }
    const bool in_force = has_in_force(*guest, patch);
    if (domain.state == "failed") {
      EXPECT_TRUE(domain.in_force || !in_force) << all;
    } else {
      EXPECT_EQ(in_force, kInForce.contains(domain.state)) << all;
    }
  }
}

namespace {

void make_ready(const FleetGuest& guest) {
  const std::string state = guest.state();
  if (state == "paused") {
    guest.resume();
  } else if (state != "running") {
    guest.start();
  }
  guest.wait_until_up();
  if (!guest.vm().trouble().empty()) {
    const std::string former = guest.boot_id().value();
    guest.reset();
    guest.wait_until_up(former);
  }
  std::istringstream patches(guest.vm().guest("ls /sys/kernel/livepatch"));
  for (std::string patch; patches >> patch;) {
    const ProcessResult result = guest.vm().vpatch("revert", {patch, "--grace", "0"});
    EXPECT_EQ(result.exit_code, 0) << result;
  }
  guest.vm().guest(fmt::format("echo {} >/dev/kmsg", kBegin));
}

TestFleet& fleet() {
  static TestFleet all("vpatch-test-rollout", mixed_fleet(5));
  return all;
}

}  // namespace

const FleetGuest& RolloutTest::guest(std::size_t index) {
  return fleet()[index];
}

RolloutTest::RolloutTest() {
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(folder_);
  use_new_journal();
  for (const auto& each : fleet()) {
    make_ready(*each);
  }
  use_new_journal();
}

FleetGuests RolloutTest::guests(std::size_t count) {
  FleetGuests some;
  for (std::size_t index = 0; index < count; ++index) {
    some.push_back(&guest(index));
  }
  return some;
}

void RolloutTest::use_new_journal() {
  std::string path;
  for (int number = 0; path.empty() || std::filesystem::exists(path); ++number) {
    path = folder_ / fmt::format("{}/journal.db", number);
  }
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  setenv("VPATCH_JOURNAL", path.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
}

}  // namespace vpatch::test
