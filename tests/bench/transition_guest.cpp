// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/transition_guest.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "introspect/kernel/trouble.h"
#include "vmm-agent/error.h"

namespace vpatch::bench {
namespace {

constexpr const char* kLoad = "/run/guest_load";
const std::string kMemoryMib = "1024";  // 1,000 tasks have room in it

[[noreturn]] void fail(const std::string& what, const test::ProcessResult& result) {
  throw std::runtime_error(
      fmt::format("{}: exit code {}\n{}{}", what, result.exit_code, result.out, result.err));
}

bool ended_as(const test::ProcessResult& result, Outcome outcome) {
  return result.exit_code == static_cast<int>(outcome);
}

boost::json::object parse(const test::ProcessResult& result) {
  return boost::json::parse(result.out).as_object();
}

/// What vpatch tells of the transition; without the time by the guest's log.
Transition transition_of(const boost::json::object& answer) {
  const auto* const transition = answer.at("transition").if_object();
  if (transition == nullptr) {
    throw std::runtime_error("vpatch could not watch the transition");
  }
  const auto number = [transition](std::string_view name) {
    return transition->at(name).to_number<std::uint64_t>();
  };
  const auto ms = [&](std::string_view name) { return static_cast<double>(number(name)) / 1e3; };
  return {.moved = {ms("lasted_us") - ms("completing_us")},
          .help = {.retries = number("retries"),
                   .rescheds = number("rescheds"),
                   .signals = number("signals"),
                   .switches = transition->at("switched").as_array().size(),
                   .pauses = number("pauses"),
                   .paused_ms = ms("paused_us"),
                   .completing_ms = ms("completing_us")}};
}

/// Whether the answer names the thread that blocks, and the function it is in.
bool names_blocker(const boost::json::object& answer) {
  const auto& tasks = answer.at("blockers").as_object().at("tasks").as_array();
  return std::ranges::any_of(tasks, [](const boost::json::value& task) {
    return task.at("name").as_string() == "vpt_block" &&
           std::ranges::any_of(task.at("stack").as_array(), [](const boost::json::value& frame) {
             return frame.as_string().find("vpatch_target_block") != std::string_view::npos;
           });
  });
}

}  // namespace

TransitionGuest::TransitionGuest(const std::string& kernel)
    : vm_("vpatch-bench-transition-" + kernel, {"--memory", kMemoryMib}) {
  vm_.deliver(VPATCH_GUEST_LOAD, kLoad);
  vm_.guest(fmt::format("chmod +x {} && /sbin/insmod /lib/modules/vpatch/vpatch_target.ko", kLoad));
  read_log();
}

void TransitionGuest::start_load(const Scenario& scenario) {
  if (!scenario.load.empty()) {
    load_group_ = vm_.guest(fmt::format("{} {}", kLoad, scenario.load));
  }
}

void TransitionGuest::end_load(const Scenario& scenario) {
  if (!load_group_.empty()) {
    vm_.guest("kill -KILL -" + load_group_);
    load_group_.clear();
  }
  if (!scenario.let_go.empty()) {
    vm_.guest(scenario.let_go);
  }
}

void TransitionGuest::read_log() {
  const auto result = vm_.vpatch("log", {"--json"});
  if (!ended_as(result, Outcome::done)) {
    fail("vpatch log", result);
  }
  records_.clear();
  const auto answer = parse(result);
  for (const boost::json::value& value : answer.at("records").as_array()) {
    introspect::LogRecord record{.sequence = value.at("sequence").to_number<std::uint64_t>(),
                                 .time_ns = value.at("time_ns").to_number<std::uint64_t>(),
                                 .text = std::string(value.at("text").as_string())};
    if (record.sequence < next_record_) {
      continue;
    }
    if (introspect::is_trouble(record.text)) {
      trouble_.push_back(record.text);
    }
    records_.push_back(std::move(record));
  }
  if (!records_.empty()) {
    next_record_ = records_.back().sequence + 1;
  }
}

Transition TransitionGuest::patch(const Scenario& scenario, Side side) {
  if (!scenario.base.empty()) {
    const auto result = vm_.vpatch("apply", {test::module_path(scenario.base)});
    if (!ended_as(result, Outcome::done)) {
      fail("apply of the older patch", result);
    }
  }
  if (!scenario.begin.empty()) {
    vm_.guest(scenario.begin);
  }
  return change("apply", test::module_path(scenario.patch), scenario, side, Direction::patching);
}

Transition TransitionGuest::unpatch(const Scenario& scenario, Side side) {
  if (!scenario.turn.empty()) {
    vm_.guest(scenario.turn);
  }
  return change("revert", scenario.patch, scenario, side, Direction::unpatching);
}

Transition TransitionGuest::change(const std::string& verb, const std::string& what,
                                   const Scenario& scenario, Side side, Direction direction) {
  std::vector<std::string> arguments = {"--json", "--on-stall", "wait", "--agent-timeout", "60s"};
  if (side == Side::stock) {
    const std::string limit = fmt::format("{}s", scenario.limit.count());
    arguments.insert(arguments.end(), {"--assist", "off", "--timeout", limit});
  } else {
    arguments.insert(arguments.end(), scenario.assist.begin(), scenario.assist.end());
  }
  if (verb == "apply") {
    arguments.insert(arguments.end(), {"--grace", "0s"});
  }
  arguments.push_back(what);
  read_log();
  const auto result = vm_.vpatch(verb, arguments);
  if (side == Side::stock && ended_as(result, Outcome::stalled_waiting)) {
    give_way(verb, what, scenario);
    constexpr double kMsPerSecond = 1e3;
    const Timing limit{static_cast<double>(scenario.limit.count()) * kMsPerSecond, true};
    return {.took = limit, .moved = limit};
  }
  if (!ended_as(result, Outcome::done)) {
    fail(verb, result);
  }
  read_log();
  const auto ms = transition_ms(records_, scenario.patch, direction);
  if (!ms) {
    throw std::runtime_error("the guest's log does not tell of the transition");
  }
  Transition transition = transition_of(parse(result));
  transition.took.ms = *ms;
  return transition;
}

/// Lets a transition end that the kernel could not end in time.
void TransitionGuest::give_way(const std::string& verb, const std::string& what,
                               const Scenario& scenario) {
  end_load(scenario);
  const auto result = vm_.vpatch(verb, {what});
  if (!ended_as(result, Outcome::done)) {
    fail(verb + " once all was let go", result);
  }
  start_load(scenario);
}

void TransitionGuest::stall(const Scenario& scenario) {
  const std::string file = test::module_path(scenario.patch);
  const auto expect = [&](const std::string& on_stall, Outcome outcome) {
    const auto result =
        vm_.vpatch("apply", {"--json", "--timeout", "2", "--on-stall=" + on_stall, file});
    if (!ended_as(result, outcome) || !names_blocker(parse(result))) {
      fail("apply of what is blocked, --on-stall=" + on_stall, result);
    }
  };
  vm_.guest(scenario.begin);
  expect("revert", Outcome::stalled_reverted);
  expect("wait", Outcome::stalled_waiting);
  vm_.guest(scenario.let_go);
  for (const auto& [verb, what] : {std::pair{"apply", file}, {"revert", scenario.patch}}) {
    const auto result = vm_.vpatch(verb, {what});
    if (!ended_as(result, Outcome::done)) {
      fail(fmt::format("{} once all was let go", verb), result);
    }
  }
  read_log();
}

void TransitionGuest::restore(const Scenario& scenario) {
  end_load(scenario);
  for (const std::string& patch : {scenario.patch, scenario.base}) {
    if (patch.empty()) {
      continue;
    }
    const auto result = vm_.vpatch("revert", {patch});
    if (!ended_as(result, Outcome::done)) {
      fail("the guest cannot be restored", result);
    }
  }
  read_log();
}

}  // namespace vpatch::bench
