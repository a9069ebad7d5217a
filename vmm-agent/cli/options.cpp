// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/options.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "vmm-agent/cli/moment.h"
#include "vmm-agent/duration.h"
#include "vmm-agent/patch/signature_policy.h"

namespace vpatch {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// An option that is a duration from `least` to `most`, put into `value` (milliseconds, or optional
/// ones).
template <class Value>
CLI::Option* add_duration(CLI::App& command, const std::string& name, Value& value,
                          milliseconds least, milliseconds most, const std::string& text) {
  return command
      .add_option_function<std::string>(
          name,
          [&value, name, least, most](const std::string& word) {
            const auto duration = parse_duration(word, least, most);
            if (!duration) {
              throw CLI::ValidationError(name, duration.error().what);
            }
            value = *duration;
          },
          text)
      ->type_name(
          fmt::format("DURATION in [{} - {}]", format_duration(least), format_duration(most)))
      ->default_str(format_duration(std::optional(value).value_or(milliseconds(0))));
}

/// An option that is one of a few words.
template <class T>
void add_choice(CLI::App& command, const std::string& name, T& value,
                const std::vector<std::pair<std::string, T>>& choices, const std::string& text) {
  std::string words;
  std::string chosen;
  for (const auto& [word, meaning] : choices) {
    words += (words.empty() ? "" : ", ") + word;
    if (meaning == value) {
      chosen = word;
    }
  }
  command
      .add_option_function<std::string>(
          name,
          [&value, name, choices, words](const std::string& word) {
            const auto found = std::ranges::find(choices, word, &std::pair<std::string, T>::first);
            if (found == choices.end()) {
              throw CLI::ValidationError(name, fmt::format("{} is not one of {}", word, words));
            }
            value = found->second;
          },
          text)
      ->type_name("{" + words + "}")
      ->default_str(chosen);
}

void add_output_options(CLI::App& command, Options& options) {
  command.add_flag("--json", options.json, "Print one JSON object instead of text");
  command.add_flag("--no-color", options.no_color, "No colours, also on a terminal");
}

/// What a verb needs to reach its VM.
enum class Needs : std::uint8_t {
  agent,     ///< a VM and its guest agent
  memory,    ///< a VM, or the core file of one
  anything,  ///< it works without a VM too
};

void add_target_options(CLI::App& command, Options& options, Needs needs) {
  auto* domain =
      command.add_option("-d,--domain", options.target.domain, "libvirt domain, by name or UUID");
  command.add_option("-c,--connect", options.target.uri, "libvirt connection")
      ->capture_default_str();
  auto* qmp = command.add_option("--qmp", options.target.qmp,
                                 "Monitor socket of a plain QEMU, instead of --domain");
  auto* qga = command.add_option("--qga", options.target.qga, "Guest agent socket of a plain QEMU");
  qmp->excludes(domain);
  qga->needs(qmp);
  add_duration(command, "--agent-timeout", options.agent_timeout, 1s, 1h,
               "How long to wait for each answer of the guest agent");
  if (needs == Needs::memory) {
    auto* core = command.add_option("--core", options.core,
                                    "Look into an ELF core of a VM (virsh dump --memory-only)");
    core->excludes(domain)->excludes(qmp)->check(CLI::ExistingFile);
  }
  if (needs != Needs::anything) {
    command.callback([&options, needs] {
      const Target& target = options.target;
      if (target.domain.empty() && target.qmp.empty() && options.core.empty()) {
        throw CLI::RequiredError(needs == Needs::memory
                                     ? "--domain NAME (or --qmp PATH, or --core FILE)"
                                     : "--domain NAME (or --qmp PATH --qga PATH)");
      }
      const bool agent = needs == Needs::agent || options.ask_agent;
      if (agent && !target.qmp.empty() && target.qga.empty()) {
        throw CLI::RequiredError("--qga PATH, with --qmp");
      }
    });
  }
}

CLI::Option* add_paused_option(CLI::App& command, Options& options) {
  return command.add_flag(
      "--paused", options.paused,
      "Stop the VM's vCPUs for the moment of the look, so that all of it is of one "
      "instant");
}

void add_transition_options(CLI::App& command, Options& options, milliseconds& timeout,
                            OnStall& on_stall) {
  add_duration(command, "--timeout", timeout, 0s, 24h, "How long a transition may take");
  add_choice<OnStall>(command, "--on-stall", on_stall,
                      {{"revert", OnStall::revert}, {"wait", OnStall::wait}},
                      "After the timeout: revert (go back) or wait (leave it pending)");
  command.add_flag("-v,--verbose", options.verbose,
                   "Say also who was waited for, and what was done about it");
  command.add_flag("--progress", options.progress,
                   "Tell on standard error how it goes, in lines for a program; with --json too");
}

void add_assist_options(CLI::App& command, AssistOptions& assist) {
  add_choice<AssistMode>(
      command, "--assist", assist.mode,
      {{"off", AssistMode::off}, {"kick", AssistMode::kick}, {"full", AssistMode::full}},
      "Help the transition along: off (only watch), kick (ask the guest module), full (also pause "
      "the guest for milliseconds to move a busy task)");
  add_duration(command, "--signal-after", assist.signal_after, 0s, 1h,
               "How long a sleeper in a changed function is left alone before it is signalled");
  add_duration(command, "--switch-after", assist.switch_after, 0s, 1h,
               "How long a busy task is left to the kernel before the guest is paused to move it");
  add_duration(command, "--max-pause", assist.max_pause, 1ms, 1s,
               "The longest pause: past it the guest runs on, whatever was to be done");
}

void add_signature_options(CLI::App& command, SignatureOptions& signature) {
  command.add_flag("--require-signed", signature.required,
                   "Only take a file whose signature is good");
  command
      .add_option("--cert", signature.certificates,
                  "Certificate that may have signed it (PEM or DER, or a folder of such); may be "
                  "given several times")
      ->allow_extra_args(false);  // what follows one may be FILE
  command.add_option("--policy", signature.policy, "Policy file (YAML)")->default_str(kPolicyFile);
}

/// How a livepatch is put in force, by apply and by ensure.
void add_apply_options(CLI::App& command, Options& options) {
  add_transition_options(command, options, options.apply.timeout, options.apply.on_stall);
  add_duration(command, "--grace", options.apply.grace, 0s, 24h,
               "How long replaced modules stay loaded");
  add_assist_options(command, options.assist);
  add_duration(command, "--when-clear", options.apply.when_clear, 0s, 24h,
               "Load only at an instant at which no task would hold the patch up; wait so long for "
               "one (60s when no time is given)")
      ->default_str("60s")
      ->expected(0, 1)
      ->run_callback_for_default(false);
  command
      .add_option("--quiesce", options.apply.quiesce,
                  "Functions, or MODULE:FUNCTION, that are not changed but must be on no stack: "
                  "load only at such an instant (waits as --when-clear, or 60s)")
      ->delimiter(',')
      ->type_name("FUNC[,FUNC...]")
      ->allow_extra_args(false);
  command.add_flag("--allow-stacking", options.apply.preflight.allow_stacking,
                   "Let the patch change functions that another patch in force changes");
  command.add_flag("--allow-downgrade", options.apply.preflight.allow_downgrade,
                   "Let an older cumulative patch take the place of a newer one although its "
                   "callbacks or states may not be made for that");
  add_signature_options(command, options.signature);
  add_duration(command, "--settle", options.settle, 0s, 1h,
               "How long the guest of a registered livepatch is watched after the load");
}

std::string not_empty(const std::string& word) {
  return word.empty() ? "it must not be empty" : "";
}

/// What ensure does instead of a repair: of --register, --list and --forget at most one.
void add_registration_options(CLI::App& ensure, Options& options) {
  auto* domain = ensure.get_option("--domain");
  auto* put = ensure.add_option("--register", options.file,
                                "Only register this livepatch (.ko) for --domain, which need not "
                                "run: the next `ensure` that finds it running puts it in force");
  auto* list = ensure.add_flag("--list", options.list,
                               "Only print what is registered, for --domain or for all");
  auto* forget =
      ensure.add_option("--forget", options.forget,
                        "Only end the registration of this livepatch for --domain (a name or an "
                        "identity of `history`); the VM need not run, nor be there");
  put->type_name("FILE")->needs(domain)->excludes(list)->excludes(forget)->check(not_empty);
  forget->type_name("PATCH")->needs(domain)->excludes(list)->check(not_empty);
  for (const char* other : {"--all", "--retry-failed"}) {
    put->excludes(ensure.get_option(other));
    list->excludes(ensure.get_option(other));
  }
}

void add_ensure(CLI::App& app, Options& options) {
  auto& ensure = *app.add_subcommand(
      "ensure", "Bring a VM, rebooted perhaps, back to the livepatches registered for it");
  add_target_options(ensure, options, Needs::anything);
  auto* all = ensure.add_flag("--all", options.all,
                              "Every VM of the connection that has registered livepatches");
  all->excludes(ensure.get_option("--domain"))->excludes(ensure.get_option("--qmp"));
  ensure.add_flag("--retry-failed", options.retry_failed,
                  "Apply also what did the guest harm, or may have, when it was loaded last, and "
                  "what was taken out of force since the guest booted");
  add_registration_options(ensure, options);
  add_apply_options(ensure, options);
  add_output_options(ensure, options);
  ensure.callback([&options] {
    const Target& target = options.target;
    if (!options.all && !options.list && target.domain.empty() && target.qmp.empty()) {
      throw CLI::RequiredError("--domain NAME (or --qmp PATH --qga PATH, or --all)");
    }
    if (!target.qmp.empty() && target.qga.empty()) {
      throw CLI::RequiredError("--qga PATH, with --qmp");
    }
  });
}

/// An option that is a moment, put into `value` as the journal writes it.
void add_moment(CLI::App& command, const std::string& name, std::string& value,
                const std::string& text) {
  command
      .add_option_function<std::string>(
          name,
          [&value, name](const std::string& word) {
            const auto moment = parse_moment(word, std::chrono::system_clock::now());
            if (!moment) {
              throw CLI::ValidationError(name, moment.error().what);
            }
            value = *moment;
          },
          text)
      ->type_name("TIME");
}

/// An option whose value, a file, may be left out.
CLI::Option* add_optional_file(CLI::App& command, const std::string& name,
                               std::optional<std::string>& value, const std::string& text) {
  return command
      .add_option_function<std::string>(
          name, [&value](const std::string& file) { value = file; }, text)
      ->type_name("[FILE]")
      ->expected(0, 1);
}

std::vector<std::pair<std::string, std::optional<Outcome>>> outcome_choices() {
  std::vector<std::pair<std::string, std::optional<Outcome>>> choices;
  for (const Outcome outcome :
       {Outcome::done, Outcome::refused, Outcome::stalled_reverted, Outcome::stalled_waiting,
        Outcome::unreachable, Outcome::failed_restored, Outcome::failed_needs_look,
        Outcome::internal}) {
    choices.emplace_back(to_string(outcome), outcome);
  }
  return choices;
}

void add_history(CLI::App& app, Options& options) {
  auto& history =
      *app.add_subcommand("history", "Show, export or verify the journal of all changes");
  OperationFilter& filter = options.history.filter;
  std::vector<CLI::Option*> filters = {
      history.add_option("-d,--domain", filter.domain, "Only of this VM, by name or UUID"),
      history.add_option("--patch", filter.patch, "Only of this livepatch, by name"),
      history.add_option("--verb", filter.verb, "Only of this verb"),
      history.add_flag("--failed", filter.failed, "Only what did not end as done"),
      history.add_option("-n,--limit", filter.limit, "At most so many, the newest")
          ->capture_default_str()};
  add_choice<std::optional<Outcome>>(history, "--outcome", filter.outcome, outcome_choices(),
                                     "Only what ended so");
  add_moment(history, "--since", filter.since,
             "Only what began then (in UTC: 2026-11-21, 2026-11-21T09:41) or so long ago (2h, 7d)");
  add_moment(history, "--until", filter.until, "Only what began before then");
  for (const char* name : {"--outcome", "--since", "--until"}) {
    filters.push_back(history.get_option(name));
  }
  auto* id = history.add_option_function<std::int64_t>(
      "--id", [&filter](std::int64_t number) { filter.id = OperationId{number}; },
      "One operation, with all its events");
  auto* exporting = add_optional_file(
      history, "--export", options.history.export_to,
      "Write all of the journal as JSON lines, each with the hash of the line before it");
  auto* verify = add_optional_file(history, "--verify", options.history.verify,
                                   "Say whether the journal, or an exported file, was changed");
  add_output_options(history, options);
  filters.push_back(id);
  for (CLI::Option* one : filters) {
    exporting->excludes(one);
    verify->excludes(one);
  }
  exporting->excludes(verify);
}

/// The verbs that only look, from the guest's memory.
void add_looking_verbs(CLI::App& app, Options& options) {
  auto& status =
      *app.add_subcommand("status", "Show the livepatches of a VM and a running transition");
  add_target_options(status, options, Needs::memory);
  auto* watch = status.add_flag("-w,--watch", options.watch, "Go on looking until Ctrl-C");
  auto* agent = status.add_flag("--agent", options.ask_agent,
                                "Ask the guest agent instead of reading memory");
  agent->excludes(watch)->excludes(status.get_option("--core"));
  add_paused_option(status, options)->excludes(watch)->excludes(agent);
  add_output_options(status, options);

  auto& stacks = *app.add_subcommand("stacks", "Show the kernel stacks of a VM's tasks");
  add_target_options(stacks, options, Needs::memory);
  stacks.add_option("-t,--task", options.task, "Only the task with this thread id or name");
  stacks.add_option("--blocking", options.blocking,
                    "Only the tasks that would block this livepatch file (.ko) now");
  add_paused_option(stacks, options);
  stacks.add_flag("--scheduler-frames", options.scheduler_frames,
                  "Show the scheduler's own functions too, as /proc/PID/stack does not");
  add_output_options(stacks, options);

  auto& log = *app.add_subcommand("log", "Print the kernel log of a VM");
  add_target_options(log, options, Needs::memory);
  log.add_flag("-f,--follow", options.log.follow, "Go on with new records until Ctrl-C");
  log.add_option("-n,--lines", options.log.lines, "Only the newest N records");
  add_output_options(log, options);
}

void add_revert(CLI::App& app, Options& options) {
  auto& revert = *app.add_subcommand("revert", "Take a livepatch out of force and unload it");
  auto* patch = revert.add_option("PATCH", options.revert.patch,
                                  "Name of the livepatch; may be left out when there is only one");
  auto* to = revert.add_option("--to", options.revert_to,
                               "Go back to this cumulative livepatch (.ko): it takes the place of "
                               "all that is in force");
  auto* with_nop = revert.add_flag("--replace-with-nop", options.replace_with_nop,
                                   "Go back to the original code by an empty cumulative livepatch, "
                                   "which takes the place of all that is in force and stays");
  revert
      .add_option("--nop", options.nop,
                  "That livepatch's file (.ko); else the one installed in the guest is used")
      ->needs(with_nop);
  patch->excludes(to)->excludes(with_nop);
  to->excludes(with_nop);
  add_target_options(revert, options, Needs::agent);
  add_transition_options(revert, options, options.revert.timeout, options.revert.on_stall);
  add_duration(revert, "--grace", options.apply.grace, 0s, 24h,
               "With --to and --replace-with-nop: how long replaced modules stay loaded");
  revert
      .add_flag("--persist", options.persist,
                "With --to: register that livepatch for the domain, in place of those that it "
                "replaces")
      ->needs(to);
  add_duration(revert, "--settle", options.settle, 0s, 1h,
               "With --persist: how long the guest is watched after the load");
  add_signature_options(revert, options.signature);
  add_assist_options(revert, options.assist);
  add_output_options(revert, options);
}

void add_force(CLI::App& app, Options& options) {
  auto& force = *app.add_subcommand(
      "force",
      "Last resort: end a running transition although tasks are pending, which may then mix old "
      "and new code; the guest should be rebooted");
  force.add_option("PATCH", options.force.patch, "Name of the livepatch in transition");
  add_target_options(force, options, Needs::agent);
  force.add_option("--yes-i-want-to-force", options.force_confirmation,
                   "The domain's name, instead of the question on the terminal");
  add_duration(force, "--timeout", options.force.timeout, 0s, 24h,
               "How long the kernel may take to complete the transition then");
  add_output_options(force, options);
}

void add_health(CLI::App& app, Options& options) {
  auto& health = *app.add_subcommand(
      "health", "Look whether a VM is healthy, from outside and through its agent");
  health.footer(
      "With -- COMMAND [ARG...] at the end, COMMAND is run in the guest, by its agent and without "
      "a "
      "shell:\nexit code 0 is healthy, 1 is not, all else is inconclusive.\n\n"
      "Exit codes: 0 healthy, 8 not healthy, 6 it could not be told.");
  add_target_options(health, options, Needs::agent);
  HealthOptions& how = options.health;
  health.add_option("--since-boot", how.since.boot_id,
                    "Boot id of the guest before a change; another one is a reboot");
  health
      .add_option("--since-log", how.since.log_sequence,
                  "Sequence number of the first record of the kernel log that counts")
      ->check(CLI::NonNegativeNumber);
  health.add_option("--since-taint", how.since.taint, "Taint mask of the kernel before a change")
      ->check(CLI::NonNegativeNumber);
  add_duration(health, "--command-timeout", how.command_timeout, 1ms, 1h,
               "How long COMMAND may take");
  add_output_options(health, options);
}

/// What follows the first `--` of `vpatch health` is the command, each word as it is. How many
/// words remain.
int take_command(int argc, char** argv, Options& options) {
  const std::span words(argv, static_cast<std::size_t>(argc));
  if (argc < 2 || std::string_view(words[1]) != "health") {
    return argc;
  }
  const auto end = std::ranges::find(words, std::string_view("--"),
                                     [](const char* word) { return std::string_view(word); });
  if (end != words.end()) {
    options.health.command.assign(end + 1, words.end());
  }
  return static_cast<int>(end - words.begin());
}

void add_serve(CLI::App& app, Options& options) {
  auto& serve = *app.add_subcommand(
      "serve", "Do on this host what the driver of a rollout, here or elsewhere, asks for");
  auto* stdio = serve.add_flag("--stdio", options.stdio,
                               "Requests on standard input, answers on standard output");
  auto* list = serve.add_flag("--list", options.list,
                              "Only print the domains of a connection, their groups and kernels");
  list->excludes(stdio);
  serve.add_option("-c,--connect", options.target.uri, "libvirt connection, with --list")
      ->capture_default_str()
      ->needs(list);
  serve.add_flag("--json", options.json, "With --list, which prints one JSON object anyway")
      ->needs(list);
  serve.callback([&options] {
    if (!options.stdio && !options.list) {
      throw CLI::RequiredError("--stdio (or --list)");
    }
  });
}

void add_group(CLI::App& app, Options& options) {
  auto& group = *app.add_subcommand(
      "group", "Show or set the groups of a domain, by which the plan of a rollout selects");
  group.add_option("-d,--domain", options.target.domain, "libvirt domain, by name or UUID")
      ->required();
  group.add_option("-c,--connect", options.target.uri, "libvirt connection")->capture_default_str();
  add_duration(group, "--agent-timeout", options.agent_timeout, 1s, 1h,
               "How long to wait for each answer of libvirt");
  GroupChange& change = options.groups;
  const auto name = [](const std::string& word) {
    return is_group_name(word) ? std::string()
                               : fmt::format(
                                     "{} is not 1 to {} letters, digits, dots, dashes and "
                                     "underscores, a letter or a digit first",
                                     word, kMaxGroupName);
  };
  auto* set = group.add_option("GROUP", change.add, "The groups that it is to be in, and no other")
                  ->check(name);
  auto* add = group.add_option("--add", change.add, "Put it into these groups too")->check(name);
  auto* remove = group.add_option("--remove", change.remove, "Take it out of these groups");
  auto* clear = group.add_flag("--clear", change.replace, "Take it out of all groups");
  set->excludes(add)->excludes(remove)->excludes(clear);
  clear->excludes(add)->excludes(remove);
  add_output_options(group, options);
  group.callback([&change, set] { change.replace = change.replace || set->count() > 0; });
}

void add_exporter(CLI::App& app, Options& options) {
  auto& exporter = *app.add_subcommand(
      "exporter", "Serve the state of this host's VMs, operations and rollouts to Prometheus");
  ExporterCommand& command = options.exporter;
  exporter
      .add_option_function<std::string>(
          "--listen",
          [&command](const std::string& word) {
            const auto address = exporter::parse_listen_address(word);
            if (!address) {
              throw CLI::ValidationError("--listen", address.error().what);
            }
            command.listen = *address;
          },
          "Where: a numeric address and a port. There is no authentication, so that any address "
          "but this host's own is warned of")
      ->type_name("ADDRESS:PORT")
      ->default_str(command.listen.text());
  exporter
      .add_option_function<std::vector<std::string>>(
          "-c,--connect",
          [&command](std::vector<std::string> uris) {
            std::ranges::sort(uris);
            const auto twice = std::ranges::unique(uris);
            uris.erase(twice.begin(), twice.end());
            command.connections = std::move(uris);
          },
          "libvirt connection of this host; may be given several times")
      ->allow_extra_args(false)
      ->default_str(command.connections.front());
  add_duration(exporter, "--interval", command.interval, 1s, 1h,
               "How often all is looked at, whether somebody asks for it or not");
}

Verb chosen_verb(const CLI::App& app) {
  static const std::map<std::string, Verb, std::less<>> kVerbs = {
      {"inspect", Verb::inspect}, {"apply", Verb::apply},       {"status", Verb::status},
      {"stacks", Verb::stacks},   {"log", Verb::log},           {"revert", Verb::revert},
      {"force", Verb::force},     {"ensure", Verb::ensure},     {"history", Verb::history},
      {"doctor", Verb::doctor},   {"health", Verb::health},     {"serve", Verb::serve},
      {"rollout", Verb::rollout}, {"exporter", Verb::exporter}, {"group", Verb::group}};
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? Verb::none : kVerbs.at(chosen.front()->get_name());
}

}  // namespace

Options parse_command_line(int argc, char** argv) {
  Options options;
  options.version = VPATCH_VERSION;
  CLI::App app("vpatch patches the running kernel of virtual machines from the host.");
  app.footer(
      "Durations are written as 20ms, 1.5s, 2m or 1h; a number alone is in seconds.\n\n"
      "Exit codes: 0 done, 2 usage, 3 refused before the guest was touched, 4 stalled and "
      "reverted, 5 stalled and\n"
      "left waiting, 6 guest or hypervisor unreachable, 7 failed after a change and guest "
      "restored, 8 failed and\n"
      "guest needs a look, 9 done but not all of it is in the journal, 70 a bug of vpatch.");
  app.set_version_flag("--version", "vpatch " VPATCH_VERSION);
  app.require_subcommand(1);

  auto& inspect =
      *app.add_subcommand("inspect", "Show what a livepatch file holds; no VM is touched");
  inspect.add_option("FILE", options.file, "Livepatch module (.ko)")->required();
  add_signature_options(inspect, options.signature);
  add_output_options(inspect, options);

  auto& apply = *app.add_subcommand("apply", "Put a livepatch in force in a running VM");
  apply.add_option("FILE", options.file, "Livepatch module (.ko)")->required();
  add_target_options(apply, options, Needs::agent);
  add_apply_options(apply, options);
  auto* dry_run =
      apply.add_flag("-n,--dry-run", options.apply.dry_run, "Check everything, change nothing");
  apply
      .add_flag("--persist", options.persist,
                "Register the livepatch for the domain: `vpatch ensure` brings it back after a "
                "reboot")
      ->excludes(dry_run);
  add_output_options(apply, options);

  add_looking_verbs(app, options);

  add_revert(app, options);
  add_force(app, options);

  add_ensure(app, options);
  add_history(app, options);

  auto& doctor = *app.add_subcommand(
      "doctor", "Check this host and, with --domain, everything an apply needs");
  add_target_options(doctor, options, Needs::anything);
  add_output_options(doctor, options);

  add_rollout(app, options);
  add_health(app, options);
  add_serve(app, options);
  add_group(app, options);
  add_exporter(app, options);

  try {
    app.parse(take_command(argc, argv, options), argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kUsage = static_cast<int>(Outcome::usage);
    options.exit_code = app.exit(error) == 0 ? 0 : kUsage;
    return options;
  }
  options.verb = chosen_verb(app);
  return options;
}

}  // namespace vpatch
