// SPDX-License-Identifier: Apache-2.0
// A long life of a guest: operations in a random order, some of them cut short, and after each one
// `vpatch status` against what the guest's own sysfs says.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <iterator>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/livepatch_fixture.h"

namespace vpatch::test {
namespace {

using std::chrono::milliseconds;
using testing::AnyOf;

const std::vector<std::string> kAdditions = {"vpatch_indep", "vpatch_indep2", "vpatch_target_lp",
                                             "vpatch_callbacks"};
/// The order is that of their versions.
const std::vector<std::string> kCumulative = {
    "vpatch_demo_v1",       "vpatch_cum_v1", "vpatch_cum_v2",           "vpatch_cum_v3",
    "vpatch_cum_stateless", "vpatch_nop",    "vpatch_callbacks_replace"};

constexpr const char* kSysfs = R"sh(cd /sys/kernel/livepatch || exit 1
for patch in *; do
  read -r enabled 2>/dev/null <"$patch/enabled" || continue
  read -r transition <"$patch/transition"
  echo "$patch enabled=$enabled transition=$transition"
  for object in "$patch"/*/; do
    object=${object%/}
    read -r patched 2>/dev/null <"$object/patched" || continue
    echo "$object patched=$patched"
    for function in "$object"/*/; do [ ! -d "$function" ] || echo "${function%/}"; done
  done
done | sort)sh";

std::string sorted(std::vector<std::string> lines) {
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines) {
    text += line + "\n";
  }
  return text;
}

/// What status says, as kSysfs prints what the kernel says.
std::string as_sysfs(const boost::json::object& status) {
  std::vector<std::string> lines;
  for (const auto& value : status.at("patches").as_array()) {
    const auto& patch = value.as_object();
    const std::string name = text_of(patch, "name");
    lines.push_back(fmt::format("{} enabled={:d} transition={:d}", name,
                                patch.at("enabled").as_bool(), patch.at("transition").as_bool()));
    for (const auto& entry : patch.at("objects").as_array()) {
      const auto& object = entry.as_object();
      const std::string place = name + "/" + text_of(object, "name");
      lines.push_back(fmt::format("{} patched={:d}", place, object.at("patched").as_bool()));
      for (const auto& function : object.at("functions").as_array()) {
        lines.push_back(place + "/" + std::string(function.as_string()));
      }
    }
  }
  return sorted(std::move(lines));
}

class RandomOperations : public LivepatchTest {
 protected:
  using Operation = std::function<void(RandomOperations&)>;
  struct Choice {
    std::string name;
    int weight;
    Operation run;
  };
  static const std::vector<Choice>& choices();

  std::size_t below(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random_);
  }
  const std::string& any_of(const std::vector<std::string>& names) {
    return names.at(below(names.size()));
  }
  std::string any_patch() { return any_of(below(2) == 0 ? kAdditions : kCumulative); }

  std::string one_in_force() {
    std::istringstream names(in_force());
    const std::vector<std::string> list{std::istream_iterator<std::string>(names), {}};
    return list.empty() ? any_patch() : any_of(list);
  }

  void apply_one(const std::string& patch, const std::vector<std::string>& options) {
    said_ += fmt::format(" apply {}", patch);
    const Answer answer = apply_patch(patch, options);
    said_ += fmt::format(" -> {}", answer.exit_code);
    EXPECT_THAT(answer.exit_code, AnyOf(0, 3, 7)) << said_ << "\n" << answer;
    const bool there = (" " + in_force()).find(" " + patch + " ") != std::string::npos;
    EXPECT_TRUE(there || answer.exit_code != 0) << said_ << "\n" << answer;
  }

  void revert_one(const std::string& patch) {
    said_ += fmt::format(" revert {}", patch);
    const Answer answer = revert_patch(patch);
    said_ += fmt::format(" -> {}", answer.exit_code);
    // Refused while the transition of another one runs, which a killed vpatch has left behind.
    EXPECT_THAT(answer.exit_code, AnyOf(0, 3)) << said_ << "\n" << answer;
    EXPECT_TRUE(answer.exit_code != 0 || !is_loaded(patch)) << said_;
  }

  /// Ctrl-C while a transition hangs, in whichever direction it goes.
  void reverse_one() {
    if (!is_loaded("vpatch_target")) {
      insmod("vpatch_target");
    }
    const std::string patch = "vpatch_target_lp";
    const bool there = (" " + in_force()).find(" " + patch + " ") != std::string::npos;
    block();
    Process process(
        vm().vpatch_argv(there ? "revert" : "apply", {there ? patch : module_path(patch)}));
    const std::string begun = there ? "disabled " + patch : "loaded " + patch;
    EXPECT_TRUE(eventually([&] {
      return process.err_so_far().find(begun) != std::string::npos || !process.running();
    }));
    process.signal(SIGINT);
    const ProcessResult result = process.wait();
    said_ += fmt::format(" {} -> {}", begun, result.exit_code);
    EXPECT_THAT(result.exit_code, AnyOf(0, 3, 7)) << said_ << "\n" << result;
    target("release");
  }

  /// kill -9 at any instant of an apply or a revert.
  void kill_one() {
    const bool apply = below(2) == 0;
    const std::string patch = any_patch();
    Process process(
        vm().vpatch_argv(apply ? "apply" : "revert", {apply ? module_path(patch) : patch}));
    const auto due = std::chrono::steady_clock::now() + milliseconds(below(2000));
    while (process.running() && std::chrono::steady_clock::now() < due) {
      std::this_thread::sleep_for(milliseconds(1));
    }
    process.signal(SIGKILL);
    said_ +=
        fmt::format(" {} {} -> {}", apply ? "apply" : "revert", patch, process.wait().exit_code);
    EXPECT_TRUE(eventually([] { return run_state(vm()) == "running"; })) << said_;
  }

  void load_or_unload_target() {
    if (is_loaded("vpatch_target")) {
      rmmod("vpatch_target");
    } else {
      insmod("vpatch_target");
    }
  }

  void boot_again() {
    EXPECT_EQ(vm().trouble(), "") << said_;
    reboot();
  }

  /// The guest moves on while it is asked: what counts is what sysfs says before and after.
  void expect_status_is_true() {
    std::string sysfs;
    std::string status;
    EXPECT_TRUE(eventually([&] {
      sysfs = vm().guest(kSysfs);
      status = as_sysfs(look(vm(), "status"));
      return sysfs == status && sysfs == vm().guest(kSysfs);
    })) << said_
        << "\nsysfs:\n"
        << sysfs << "status:\n"
        << status;
  }

  std::mt19937 random_;
  std::string said_;
};

const std::vector<RandomOperations::Choice>& RandomOperations::choices() {
  using Self = RandomOperations;
  static const std::vector<Choice> list = {
      {"apply", 6, [](Self& self) { self.apply_one(self.any_of(kAdditions), {}); }},
      {"replace", 5,
       [](Self& self) { self.apply_one(self.any_of(kCumulative), {"--grace", "0"}); }},
      {"downgrade", 3,
       [](Self& self) {
         self.apply_one(self.any_of(kCumulative), {"--grace", "0", "--allow-downgrade"});
       }},
      {"revert", 6, [](Self& self) { self.revert_one(self.one_in_force()); }},
      {"revert of any", 1, [](Self& self) { self.revert_one(self.any_patch()); }},
      {"reversal", 3, &Self::reverse_one},
      {"kill -9", 4, &Self::kill_one},
      {"reboot", 1, &Self::boot_again},
      {"target", 4, &Self::load_or_unload_target},
  };
  return list;
}

TEST_F(RandomOperations, StatusAlwaysTellsWhatTheGuestsOwnSysfsTells) {
  const int operations = count_from_environment("VPATCH_OPERATIONS", 25);
  const auto seed = static_cast<unsigned>(
      count_from_environment("VPATCH_SEED", static_cast<int>(std::random_device()() >> 2) + 1));
  fmt::print("random operations on {}: {}, VPATCH_SEED={}\n", kernel(), operations, seed);
  random_.seed(seed);
  std::vector<int> weights;
  for (const Choice& choice : choices()) {
    weights.push_back(choice.weight);
  }
  std::discrete_distribution<std::size_t> any(weights.begin(), weights.end());
  std::map<std::string, int> counts;
  for (int number = 1; number <= operations && !HasFailure(); ++number) {
    const Choice& choice = choices().at(any(random_));
    ++counts[choice.name];
    said_ = fmt::format("{} of {}: {}:", number, operations, choice.name);
    choice.run(*this);
    expect_status_is_true();
    fmt::print("{}; in force: {}\n", said_, in_force());
  }
  const auto journal = history({"--verify"});
  EXPECT_EQ(journal.at("sound"), true) << boost::json::serialize(journal);
  for (const auto& [name, count] : counts) {
    fmt::print("table | {} | {}\n", name, count);
  }
}

}  // namespace
}  // namespace vpatch::test
