// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/options.h"

#include <cmath>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace vpatch {
namespace {

using std::chrono::milliseconds;

struct Durations {
  double timeout = 60;
  double grace = 10;
  double agent_timeout = 20;
};

milliseconds seconds_to_ms(double seconds) {
  return milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

/// An option in seconds; refuses what is no finite number between the bounds.
CLI::Option* add_seconds(CLI::App& command, const std::string& name, double& value, double least,
                         double most, const std::string& text) {
  return command.add_option(name, value, text)
      ->check(CLI::Validator(
          [least, most](const std::string& word) {
            double number = 0;
            const bool good = CLI::detail::lexical_cast(word, number) && std::isfinite(number) &&
                              number >= least && number <= most;
            return good ? std::string()
                        : fmt::format("{} is not a number of seconds from {} to {}", word, least,
                                      most);
          },
          fmt::format("SECONDS in [{} - {}]", least, most)))
      ->capture_default_str();
}

void add_output_options(CLI::App& command, Options& options) {
  command.add_flag("--json", options.json, "Print one JSON object instead of text");
  command.add_flag("--no-color", options.no_color, "No colours, also on a terminal");
}

void add_target_options(CLI::App& command, Options& options, Durations& durations, bool required) {
  auto* domain =
      command.add_option("-d,--domain", options.target.domain, "libvirt domain, by name or UUID");
  command.add_option("-c,--connect", options.target.uri, "libvirt connection")
      ->capture_default_str();
  auto* qmp = command.add_option("--qmp", options.target.qmp,
                                 "Monitor socket of a plain QEMU, instead of --domain");
  auto* qga = command.add_option("--qga", options.target.qga, "Guest agent socket of a plain QEMU");
  qmp->excludes(domain);
  qga->needs(qmp);
  add_seconds(command, "--agent-timeout", durations.agent_timeout, 1, 3600,
              "How long to wait for each answer of the guest agent");
  if (required) {
    command.callback([&options] {
      if (options.target.domain.empty() && options.target.qmp.empty()) {
        throw CLI::RequiredError("--domain NAME (or --qmp PATH --qga PATH)");
      }
      if (!options.target.qmp.empty() && options.target.qga.empty()) {
        throw CLI::RequiredError("--qga PATH, with --qmp");
      }
    });
  }
}

void add_transition_options(CLI::App& command, Options& options, Durations& durations,
                            OnStall& on_stall) {
  static const std::map<std::string, OnStall> kOnStall = {{"revert", OnStall::revert},
                                                          {"wait", OnStall::wait}};
  add_seconds(command, "--timeout", durations.timeout, 0, 86400, "How long a transition may take");
  command
      .add_option("--on-stall", on_stall,
                  "After the timeout: revert (go back) or wait (leave it pending)")
      ->transform(CLI::CheckedTransformer(kOnStall, CLI::ignore_case).description("{revert,wait}"))
      ->default_str("revert");
  command.add_flag("-v,--verbose", options.verbose, "Say also how long the whole took");
}

Verb chosen_verb(const CLI::App& app) {
  static const std::map<std::string, Verb, std::less<>> kVerbs = {{"inspect", Verb::inspect},
                                                                  {"apply", Verb::apply},
                                                                  {"status", Verb::status},
                                                                  {"revert", Verb::revert},
                                                                  {"doctor", Verb::doctor}};
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? Verb::none : kVerbs.at(chosen.front()->get_name());
}

}  // namespace

Options parse_command_line(int argc, char** argv) {
  Options options;
  Durations durations;
  CLI::App app("vpatch patches the running kernel of virtual machines from the host.");
  app.footer(
      "Exit codes: 0 done, 2 usage, 3 refused before the guest was touched, 4 stalled and "
      "reverted, 5 stalled and\n"
      "left waiting, 6 guest or hypervisor unreachable, 7 failed after a change and guest "
      "restored, 8 failed and\n"
      "guest needs a look, 70 a bug of vpatch.");
  app.set_version_flag("--version", "vpatch " VPATCH_VERSION);
  app.require_subcommand(1);

  auto& inspect =
      *app.add_subcommand("inspect", "Show what a livepatch file holds; no VM is touched");
  inspect.add_option("FILE", options.file, "Livepatch module (.ko)")->required();
  add_output_options(inspect, options);

  auto& apply = *app.add_subcommand("apply", "Put a livepatch in force in a running VM");
  apply.add_option("FILE", options.file, "Livepatch module (.ko)")->required();
  add_target_options(apply, options, durations, true);
  add_transition_options(apply, options, durations, options.apply.on_stall);
  add_seconds(apply, "--grace", durations.grace, 0, 86400, "How long replaced modules stay loaded");
  apply.add_flag("-n,--dry-run", options.apply.dry_run, "Check everything, change nothing");
  apply.add_flag("--allow-stacking", options.apply.preflight.allow_stacking,
                 "Let the patch change functions that another patch in force changes");
  add_output_options(apply, options);

  auto& status =
      *app.add_subcommand("status", "Show the livepatches of a VM and a running transition");
  add_target_options(status, options, durations, true);
  add_output_options(status, options);

  auto& revert = *app.add_subcommand("revert", "Take a livepatch out of force and unload it");
  revert.add_option("PATCH", options.revert.patch,
                    "Name of the livepatch; may be left out when there is only one");
  add_target_options(revert, options, durations, true);
  add_transition_options(revert, options, durations, options.revert.on_stall);
  add_output_options(revert, options);

  auto& doctor = *app.add_subcommand(
      "doctor", "Check this host and, with --domain, everything an apply needs");
  add_target_options(doctor, options, durations, false);
  add_output_options(doctor, options);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kUsage = static_cast<int>(Outcome::usage);
    options.exit_code = app.exit(error) == 0 ? 0 : kUsage;
    return options;
  }
  options.verb = chosen_verb(app);
  options.agent_timeout = seconds_to_ms(durations.agent_timeout);
  options.apply.timeout = options.revert.timeout = seconds_to_ms(durations.timeout);
  options.apply.grace = seconds_to_ms(durations.grace);
  return options;
}

}  // namespace vpatch
