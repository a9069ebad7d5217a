// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/rollout_options.h"

#include <array>

#include <CLI/CLI.hpp>

#include "vmm-agent/cli/options.h"

namespace vpatch {
namespace {

void add_output(CLI::App& command, Options& options, const char* json) {
  command.add_flag("--json", options.json, json);
  command.add_flag("--no-color", options.no_color, "No colours, also on a terminal");
}

void add_plan_flags(CLI::App& start, rollout::PlanFlags& flags) {
  const std::string group = "Plan";
  const auto grouped = [&](CLI::Option* option) { return option->group(group); };
  grouped(start.add_option("--name", flags.name, "Name of the rollout"));
  grouped(start.add_option("--file", flags.files,
                           "Livepatch file for a kernel release or build id; again for others"))
      ->type_name("KERNEL=FILE")
      ->allow_extra_args(false);
  grouped(start.add_option("-c,--connect", flags.connections,
                           "libvirt connection (qemu:///system, qemu+ssh://HOST/system); again for "
                           "others"))
      ->type_name("URI")
      ->allow_extra_args(false);
  grouped(start.add_option("-d,--domain", flags.names, "Only domains of these names"))
      ->type_name("GLOB")
      ->allow_extra_args(false);
  grouped(start.add_option("--group", flags.groups, "Only domains of these groups (vpatch group)"))
      ->allow_extra_args(false);
  grouped(start.add_option("--except", flags.except, "None of these names"))
      ->type_name("GLOB")
      ->allow_extra_args(false);
  grouped(start.add_option("--canary", flags.canary, "Patch so many first, alone"))
      ->type_name("N|N%");
  grouped(start.add_option("--wave", flags.waves,
                           "Size of a wave and its soak time (10%,5m); again for the next ones"))
      ->type_name("N|N%[,SOAK]")
      ->allow_extra_args(false);
  grouped(start.add_option("--on-failure", flags.on_failure, "When the budget is spent"))
      ->type_name("{pause, abort, rollback}");
  grouped(start.add_option("--set", flags.settings,
                           "Any other key of the plan, such as limits.budget=5%"))
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

void add_start(CLI::App& rollout, Options& options) {
  RolloutOptions& how = options.rollout;
  auto& start = *rollout.add_subcommand(
      "start", "Patch a fleet by a plan: a canary, then waves, and watch over its health");
  start.add_option("PLAN", how.plan,
                   "The plan, a YAML file (docs/rollout.md); - for standard input. Flags take the "
                   "place of what it says, or do without it");
  start.add_flag("-n,--dry-run", how.dry_run,
                 "Say what would happen to whom, with each domain's preflight and who would block");
  start.add_flag("--skip-unreachable", how.skip_unreachable,
                 "Go on without hosts that do not list their domains");
  add_plan_flags(start, how.flags);
  add_output(start, options, "Print what happens as JSON, one object a line");
  start.callback([&how] {
    if (how.plan.empty() && how.flags.empty()) {
      throw CLI::RequiredError("PLAN, or --name, --file and --connect");
    }
  });
}

void add_named(CLI::App& rollout, Options& options, const char* name, const char* what,
               bool drives) {
  auto& command = *rollout.add_subcommand(name, what);
  command.add_option("NAME", options.rollout.name,
                     "Name of the rollout; without it the one that has not finished");
  if (drives) {
    command.add_option("--why", options.rollout.why, "A word for the record");
  }
  add_output(command, options,
             drives ? "Print what happens as JSON, one object a line" : "Print one JSON object");
}

RolloutVerb verb_of(const CLI::App& rollout) {
  constexpr std::array<std::pair<std::string_view, RolloutVerb>, 8> kVerbs = {
      {{"start", RolloutVerb::start},
       {"status", RolloutVerb::status},
       {"pause", RolloutVerb::pause},
       {"resume", RolloutVerb::resume},
       {"abort", RolloutVerb::abort},
       {"rollback", RolloutVerb::rollback},
       {"report", RolloutVerb::report},
       {"list", RolloutVerb::list}}};
  const auto chosen = rollout.get_subcommands();
  for (const auto& [name, verb] : kVerbs) {
    if (!chosen.empty() && chosen.front()->get_name() == name) {
      return verb;
    }
  }
  return RolloutVerb::none;
}

}  // namespace

void add_rollout(CLI::App& app, Options& options) {
  auto& rollout = *app.add_subcommand("rollout", "Patch a fleet of VMs, a few at a time");
  rollout.require_subcommand(1);
  rollout.footer(
      "Durations are written as 20ms, 1.5s, 2m or 1h; a number alone is in seconds.\n\n"
      "Exit codes: 0 finished, 2 usage or a wrong plan, 3 refused before any guest was touched, 4 "
      "rolled back,\n5 paused, aborted or interrupted, 6 a host does not answer, 8 finished or "
      "rolled back, and some domain needs\na look, 70 a bug of vpatch. docs/rollout.md tells what "
      "a "
      "plan is.");
  add_start(rollout, options);
  add_named(rollout, options, "status", "Show how far it is, and what runs", false);
  add_named(rollout, options, "pause", "Begin nothing new; what is at work ends", true);
  add_named(rollout, options, "resume",
            "Go on: after a pause (failures so far are accepted), or after the end of the process "
            "that drove it",
            true);
  add_named(rollout, options, "abort", "End it for good; what was patched stays patched", true);
  add_named(rollout, options, "rollback", "Take its livepatch out of all domains again", true);
  add_named(rollout, options, "report", "Write all of it as one HTML page", false);
  rollout.get_subcommand("report")
      ->add_option("-o,--output", options.rollout.output, "Where to; - for standard output")
      ->type_name("FILE");
  auto& list = *rollout.add_subcommand("list", "List the rollouts of this host");
  add_output(list, options, "Print one JSON object");
  rollout.callback([&rollout, &options] { options.rollout.verb = verb_of(rollout); });
}

}  // namespace vpatch
