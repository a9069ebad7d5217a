// SPDX-License-Identifier: Apache-2.0
// A rollout's plan, of any bytes: what is taken can be written down and read again, with flags of
// the command line too, and its window and its waves keep to what they say.
#include <algorithm>
#include <chrono>
#include <iterator>
#include <ranges>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_input.h"
#include "tests/unit/rollout/whole_plan.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/rollout/plan_flags.h"
#include "vmm-agent/rollout/selection.h"
#include "vmm-agent/rollout/waves.h"

namespace vpatch::fuzz {
namespace {

using rollout::Plan;
using rollout::Time;

constexpr const char* kFolder = "/plans";
/// No plan has it, so that it separates what an input is made of.
constexpr char kSeparator = '\f';
constexpr std::size_t kLongestError = 4096;

std::string_view take_part(std::string_view& text) {
  const auto part = text.substr(0, text.find(kSeparator));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

void look_at_error(const Error& error) {
  require(error.outcome == Outcome::usage && !error.what.empty());
  require(error.what.size() <= kLongestError && displayable(error.what) == error.what);
}

void look_at_amount(const rollout::Amount& amount) {
  for (const std::uint64_t all : {0ULL, 1ULL, 7ULL, 10'000ULL, ~0ULL}) {
    require(amount.of(all) <= all);
  }
}

void look_at_window(const rollout::MaintenanceWindow& window, Time now) {
  using std::chrono::seconds;
  require(rollout::check_zone(window.zone).has_value());
  require(window.length() > window.cutoff && window.length() <= std::chrono::hours(24));
  const auto next = window.next_opening(now);
  require(next.has_value() && *next >= now && window.open(*next));
  require(window.open(now) == (*next == now));
  if (*next > now) {
    require(!window.open(*next - seconds(1)) && !window.open(now + (*next - now) / 2));
  }
}

/// Domains whose names, groups and kernels are the plan's own, and some others.
std::vector<rollout::Target> targets_of(const Plan& plan) {
  constexpr int kMost = 8;
  std::vector<std::string> names = {"web01", std::string(255, 'a'), ""};
  for (const auto* list : {&plan.selection.names, &plan.selection.except}) {
    std::ranges::copy(*list | std::views::take(kMost), std::back_inserter(names));
  }
  std::vector<rollout::Target> targets;
  for (const std::string& name : names) {
    targets.push_back({.connection = plan.selection.connections.front(),
                       .name = name,
                       .identity = std::to_string(targets.size() / 2 * 2),
                       .groups = plan.selection.groups,
                       .kernel_release = plan.files[targets.size() % plan.files.size()].kernel,
                       .build_id = {},
                       .running = targets.size() % 3 != 0});
  }
  return targets;
}

void look_at_waves(const Plan& plan) {
  const auto targets = targets_of(plan);
  const auto selected = rollout::select(plan, targets);
  require(selected.size() == targets.size());
  std::size_t chosen = 0;
  for (const rollout::Selected& one : selected) {
    const bool takes = one.choice == rollout::Choice::chosen;
    require(takes == one.file.has_value() && (!takes || *one.file < plan.files.size()));
    chosen += takes ? 1 : 0;
  }
  const auto waves = rollout::make_waves(plan, targets, selected, "seed");
  if (!waves) {
    require(waves.error().outcome == Outcome::refused && plan.canary.has_value());
    return;
  }
  std::vector<bool> seen(targets.size());
  const auto count = [&](const std::vector<std::size_t>& places) {
    for (const std::size_t place : places) {
      require(selected.at(place).choice == rollout::Choice::chosen && !seen[place]);
      seen[place] = true;
      --chosen;
    }
  };
  require(waves->waves.size() == plan.waves.size());
  count(waves->canary);
  for (const auto& wave : waves->waves) {
    count(wave);
  }
  require(chosen == 0);
}

void look_at_plan(const Plan& plan, Time now) {
  const std::string yaml = rollout::to_yaml(plan);
  const auto again = rollout::parse_plan(yaml, "/elsewhere");
  require(again.has_value() && *again == plan && rollout::to_yaml(*again) == yaml);
  for (const rollout::PlannedFile& planned : plan.files) {
    require(planned.file.is_absolute() && planned.file == planned.file.lexically_normal());
  }
  for (const rollout::Wave& wave : plan.waves) {
    look_at_amount(wave.amount);
  }
  look_at_amount(plan.limits.budget);
  if (plan.window) {
    look_at_window(*plan.window, now);
  }
  look_at_waves(plan);
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const Time now{std::chrono::seconds(input.take<std::uint32_t>())};
  auto rest = text_of(input.rest());
  const auto yaml = take_part(rest);
  const std::string setting(take_part(rest));
  const std::string folder = kFolder + std::string(rest);

  const auto plan = rollout::parse_plan(yaml, folder);
  if (plan) {
    look_at_plan(*plan, now);
    // What the flag says is there already: the plan must be the same.
    const rollout::PlanFlags name{.name = plan->name};
    const auto again = rollout::parse_plan(yaml, folder, name, folder);
    require(again.has_value() && *again == *plan);
  } else {
    look_at_error(plan.error());
  }
  rollout::PlanFlags flags;
  flags.settings = {setting};
  if (const auto changed = rollout::parse_plan(yaml, folder, flags, folder)) {
    look_at_plan(*changed, now);
  } else {
    require(changed.error().outcome == Outcome::usage);
  }
}

constexpr std::string_view kLeast = R"(name: fix-1
files: [{kernel: 6.1.0-56, file: fix.ko}]
connections: ["qemu:///system"]
)";

/// Words that a record has to quote.
constexpr std::string_view kOddWords = R"(# a comment
domains: {names: ["[a-c]?", "a\\b"]}
checks:
  - name: script
    command: ["\ttab\nline \u00e4 \x20", '{domain} ''quoted'' ', ~]
)";

constexpr std::string_view kAliases = R"(name: &n fix
files: [&f {kernel: a, file: &p ../fix.ko}]
connections: &c [*n, *p]
domains: {names: &l ["a*", "\ufeff", "\u2028", '~'], except: *l}
canary: {amount: 3%, soak: 0}
checks: [{name: *n, command: *c}, {name: b, command: [*p, >
  folded

  text
]}]
window: {from: "02:30", to: "02:30", zone: America/Havana, cutoff: 23h}
)";

}  // namespace

std::vector<Bytes> seeds() {
  constexpr std::uint32_t kSpring = 1'774'745'000;  // just before Berlin's clocks change in 2026
  std::vector<Bytes> all;
  const auto add = [&](std::string text, std::uint32_t now = kSpring) {
    all.push_back(Output().put(now).put_bytes(to_bytes(text)).take());
  };
  add(std::string(rollout::kWholePlan) + "\flimits.budget=5%");
  add(std::string(kAliases) + "\fpersist=false\f/a/../b");
  const std::string least(kLeast);
  add(least);
  add(least + std::string(kOddWords));
  add(least + "canary: {amount: 1}\nwaves: [{amount: 99%}, {amount: 1}]\fwaves=[{soak: 1m}]");
  add(least + "apply: {quiesce: [a, 'b:c'], grace: 1.5s, switch-after: 20ms}\fcanary.amount=2");
  add(least + "---\nname: b\n");
  add("{name: a}, b\fwaves=[a], b");
  add(least + "\f\f/\xff\n");
  add(least + "domains: {names: [\"\xef\xbf\xbe\", \"\\uFFFE\\U0001F600\"]}\n");
  for (const char* window : {"{from: 00:00, to: 00:00, zone: Pacific/Apia}",
                             "{from: 02:10, to: 02:40, zone: Europe/Berlin, days: [sun]}",
                             "{from: 23:00, to: 00:30, zone: America/Havana, cutoff: 89m}",
                             "{from: 23:59, to: 23:58, zone: Australia/Lord_Howe, cutoff: 1m}"}) {
    add(least + "window: " + window, 1'792'890'000);  // and in autumn
  }
  return all;
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}
