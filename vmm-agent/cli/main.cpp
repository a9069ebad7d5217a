// SPDX-License-Identifier: Apache-2.0
// The vpatch program: the only place that prints and picks the exit code.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string_view>

#include <boost/json.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "vmm-agent/assist/transition_assist.h"
#include "vmm-agent/cli/confirm.h"
#include "vmm-agent/cli/history.h"
#include "vmm-agent/cli/interrupt.h"
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/options.h"
#include "vmm-agent/cli/recorder.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/rollout.h"
#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/domain/guardian_process.h"
#include "vmm-agent/domain/libvirt_domains.h"
#include "vmm-agent/domain/pause.h"
#include "vmm-agent/exporter/exporter.h"
#include "vmm-agent/guest/agent_guest.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/memory_introspection.h"
#include "vmm-agent/operation/roll_forward.h"
#include "vmm-agent/operation/settle.h"
#include "vmm-agent/operation/task_stacks.h"
#include "vmm-agent/patch/signature_check.h"
#include "vmm-agent/patch/signature_policy.h"
#include "vmm-agent/serve/domain_list.h"
#include "vmm-agent/serve/server.h"

namespace vpatch {
namespace {

constexpr std::chrono::milliseconds kWatchEach{500};

/// Of two, the one that asks for more attention.
Outcome worse(Outcome a, Outcome b) {
  const auto rank = [](Outcome outcome) {
    return outcome == Outcome::unrecorded ? 1 : static_cast<int>(outcome);
  };
  return rank(a) < rank(b) ? b : a;
}

/// One run of the program.
class Program {
 public:
  explicit Program(const Options& options)
      : options_(options),
        out_(!options.no_color && wants_color(stdout)),
        err_(!options.no_color && wants_color(stderr)),
        reporter_(err_, is_live(stderr),
                  options.progress ? Telling::lines
                  : options.json   ? Telling::nothing
                                   : Telling::text) {}

  Outcome run() {
    switch (options_.verb) {
      case Verb::inspect:
        return inspect();
      case Verb::apply:
        return apply_file();
      case Verb::status:
        return options_.ask_agent ? status_of_agent() : look("status");
      case Verb::stacks:
      case Verb::log:
        return look(options_.verb == Verb::log ? "log" : "stacks");
      case Verb::revert:
        return revert_patch();
      case Verb::ensure:
        return ensure_registered();
      case Verb::history:
        return history();
      case Verb::force:
        return force_transition();
      case Verb::doctor:
        return doctor();
      case Verb::health:
        return health();
      case Verb::serve:
        return list();
      case Verb::rollout:
        return run_rollout(options_, interrupt_);
      case Verb::group:
        return group();
      case Verb::exporter:
      case Verb::none:
        break;
    }
    return Outcome::usage;
  }

 private:
  /// A VM that runs and whose agent can be spoken to.
  struct Session {
    std::unique_ptr<Domain> domain;
    std::unique_ptr<AgentGuest> guest;
  };

  qmp::CallOptions call_options() const { return {options_.agent_timeout, interrupt_.token()}; }

  Result<Session> attach() {
    reporter_.progress("attaching to the domain");
    Session session;
    auto domain = open_domain(options_.target, call_options());
    if (!domain) {
      return std::unexpected(domain.error());
    }
    session.domain = *std::move(domain);
    const std::string& name = session.domain->name();
    auto state = session.domain->run_state(call_options());
    if (!state) {
      return std::unexpected(std::move(state.error()).in_context(name));
    }
    if (*state != RunState::running) {
      return fail(
          Outcome::unreachable, fmt::format("{} is {}", name, to_string(*state)),
          "Only a running VM can be looked into: start or resume it (virsh start, virsh resume).");
    }
    auto channel = session.domain->agent(call_options());
    if (!channel) {
      return std::unexpected(std::move(channel.error()).in_context(name));
    }
    session.guest = std::make_unique<AgentGuest>(
        **channel, options_.assist.mode == AssistMode::off ? Urgency::ordinary : Urgency::highest);
    return session;
  }

  Context context(const Session& session, Reporter& reporter) {
    return {session.domain->name(), *session.guest,        reporter, clock_,
            interrupt_.token(),     options_.agent_timeout};
  }

  Outcome print_error(const Error& error, const std::string& verb) {
    reporter_.finish();
    if (options_.json) {
      print_json(to_json(error, verb));
    } else {
      write_text(stderr, render(error, err_));
    }
    return error.outcome;
  }

  static void print_json(const boost::json::object& object) {
    write_text(stdout, boost::json::serialize(object) + "\n");
  }

  /// `unrecorded`: why the journal does not hold all of it.
  Outcome print_report(const Report& report, const std::string& verb, const std::string& domain,
                       const std::optional<Error>& unrecorded = {}) {
    reporter_.finish();
    const Outcome exit_code =
        report.outcome == Outcome::done && unrecorded ? Outcome::unrecorded : report.outcome;
    if (options_.json) {
      boost::json::object object = to_json(report, verb, domain);
      object["exit_code"] = static_cast<int>(exit_code);
      object["journal_error"] = unrecorded ? boost::json::value(unrecorded->what) : nullptr;
      print_json(object);
    } else if (report.outcome == Outcome::done) {
      write_text(stdout, render(report, out_, options_.verbose));
    } else {
      write_text(stderr, render(report, err_, options_.verbose));
    }
    return exit_code;
  }

  Outcome inspect() {
    auto file = read_livepatch(options_.file);
    if (!file) {
      return print_error(file.error(), "inspect");
    }
    PreflightOptions rules;
    if (auto judged = judge_signature(*file, rules); !judged) {
      return print_error(judged.error(), "inspect");
    }
    const SignatureCheck signature = rules.signature.value_or(SignatureCheck());
    print(to_json(*file, signature), render(*file, signature));
    const bool refused = rules.require_signed && signature.state != SignatureState::good;
    return refused ? Outcome::refused : Outcome::done;
  }

  /// What the policy file and the command line ask of the file's signature, and what it is.
  Result<void> judge_signature(const LivepatchFile& file, PreflightOptions& rules) const {
    auto policy = find_signature_policy(options_.signature.policy);
    if (!policy) {
      return std::unexpected(std::move(policy.error()));
    }
    rules.require_signed = policy->require_signed || options_.signature.required;
    std::ranges::copy(options_.signature.certificates, std::back_inserter(policy->certificates));
    Certificates trusted;
    for (const std::filesystem::path& path : policy->certificates) {
      if (auto added = trusted.add(path); !added) {
        return added;
      }
    }
    rules.signature = check_signature(file.bytes, trusted);
    return {};
  }

  /// Attaches, takes the domain's lock and runs `operation(context)`, with an entry in the journal
  /// that begins as `entry` says, unless it is a dry run. `keep(recorder, domain, report)` then
  /// brings the domain's registrations up to date.
  template <class Operation, class Keep>
  Outcome change(OperationStart entry, const std::string& what, const Operation& operation,
                 const Keep& keep) {
    const std::string verb = entry.verb;
    auto session = attach();
    if (!session) {
      return print_error(session.error(), verb);
    }
    const Domain& domain = *session->domain;
    auto lock = DomainLock::acquire(domain.identity(), domain.name(), what);
    if (!lock) {
      return print_error(lock.error(), verb);
    }
    Recorder recorder(reporter_);
    if (!options_.apply.dry_run) {
      entry.domain = domain.name();
      entry.identity = domain.identity();
      recorder.begin(std::move(entry));
    }
    Context environment = context(*session, recorder);
    auto view = GuestView::open(*session->domain, cache_, call_options());
    std::optional<MemoryIntrospection> introspection;
    std::optional<TransitionAssist> assistance;
    if (view) {
      introspection.emplace(*view);
      environment.introspection = &*introspection;
      assistance.emplace(AssistSetup{
          .view = *view,
          .domain = *session->domain,
          .target = options_.target,
          .options = options_.assist,
          .call_timeout = options_.agent_timeout,
          .on_pause = [&recorder](const std::string& patch, const SwitchOutcome& outcome) {
            recorder.event("switch", to_json(outcome, patch));
          }});
      environment.assistance = &*assistance;
    } else {
      recorder.warning("nothing is foretold or proved from guest memory: " + view.error().what);
    }
    Report report = operation(environment);
    if (view) {
      view->keep(cache_);
    }
    if (!options_.apply.dry_run) {
      keep(recorder, domain, report);
    }
    recorder.end(report, view ? view->kernel().info().release : "");
    return print_report(report, verb, domain.name(), recorder.failure());
  }

  template <class Operation>
  Outcome change(OperationStart entry, const std::string& what, const Operation& operation) {
    return change(std::move(entry), what, operation, [](Recorder&, const Domain&, Report&) {});
  }

  Outcome apply_file() {
    auto file = read_livepatch(options_.file);
    if (!file) {
      return print_error(file.error(), "apply");
    }
    ApplyOptions how = options_.apply;
    if (auto judged = judge_signature(*file, how.preflight); !judged) {
      return print_error(judged.error(), "apply");
    }
    return change(
        entry_of("apply", *file), "apply " + file->name,
        [&](Context& environment) {
          return options_.persist ? apply_and_watch(environment, *file, how, options_.settle)
                                  : apply(environment, *file, how);
        },
        [&](Recorder& recorder, const Domain& domain, Report& report) {
          if (report.outcome != Outcome::done) {
            return;
          }
          if (options_.persist) {
            keep_registered(recorder, domain, connection(), *file, options_.file, report);
          } else {
            warn_of_registered(recorder, domain, *file, report);
          }
        });
  }

  static OperationStart entry_of(const std::string& verb, const LivepatchFile& file) {
    return {.verb = verb,
            .patch = file.name,
            .patch_version = file.version,
            .file_sha256 = file.sha256,
            .patch_build_id = file.build_id};
  }

  /// Where a registered domain is found again.
  std::string connection() const {
    const Target& target = options_.target;
    return target.is_libvirt() ? target.uri : std::filesystem::absolute(target.qmp).string();
  }

  Outcome revert_patch() {
    if (!options_.revert_to.empty()) {
      return revert_to_file();
    }
    if (options_.replace_with_nop) {
      return revert_to_nop();
    }
    return change(
        {.verb = "revert", .patch = options_.revert.patch}, "revert " + options_.revert.patch,
        [&](Context& environment) { return revert(environment, options_.revert); },
        forget_registered);
  }

  /// Without the VM, which may be gone for ever.
  Outcome forget_registration() {
    const std::string& of = options_.target.domain;
    auto journal = Journal::open(Journal::path());
    auto all = journal ? journal->registrations({}) : std::unexpected(journal.error());
    if (!all) {
      return print_error(all.error(), "ensure");
    }
    std::erase_if(*all, [&](const Registration& one) {
      return one.patch != options_.forget || (one.domain != of && one.identity != of);
    });
    if (all->empty()) {
      return print_error(
          {Outcome::refused, fmt::format("{} is not registered for {}", options_.forget, of),
           "`vpatch ensure --list` shows what is registered.", "not-registered"},
          "ensure");
    }
    if (all->size() > 1) {
      return print_error(
          {Outcome::refused,
           fmt::format("{} is registered for {} domains named {}", options_.forget, all->size(),
                       of),
           "Give the identity of the one that is meant; `vpatch history --json` has it."},
          "ensure");
    }
    const Registration& one = all->front();
    Recorder recorder(reporter_);
    recorder.begin({.verb = "ensure",
                    .domain = one.domain,
                    .identity = one.identity,
                    .patch = one.patch,
                    .file_sha256 = one.file_sha256});
    Report report;
    report.patch = one.patch;
    if (recorder.unregister_patch(one.identity, one.patch)) {
      report.conclude(Outcome::done,
                      fmt::format("{} is no longer registered for {}", one.patch, one.domain));
    } else {
      report.conclude(Outcome::refused,
                      fmt::format("{} stays registered for {}", one.patch, one.domain));
    }
    recorder.end(report, "");
    return print_report(report, "ensure", one.domain, recorder.failure());
  }

  Outcome register_livepatch() {
    auto file = read_livepatch(options_.file);
    if (!file) {
      return print_error(file.error(), "ensure");
    }
    PreflightOptions rules = options_.apply.preflight;
    if (auto judged = judge_signature(*file, rules); !judged) {
      return print_error(judged.error(), "ensure");
    }
    const auto domain = open_domain(options_.target, call_options());
    if (!domain) {
      return print_error(domain.error(), "ensure");
    }
    Recorder recorder(reporter_);
    const Report report =
        register_file(recorder, **domain, connection(), *file, options_.file, rules);
    return print_report(report, "ensure", (*domain)->name(), recorder.failure());
  }

  Outcome list_registrations() {
    auto journal = Journal::open(Journal::path());
    const auto found = journal ? registrations_of(*journal, options_.target, call_options())
                               : std::unexpected(journal.error());
    if (!found) {
      return print_error(found.error(), "ensure");
    }
    print(to_json(*found), render(*found));
    return Outcome::done;
  }

  Outcome ensure_registered() {
    if (options_.list) {
      return list_registrations();
    }
    if (!options_.file.empty()) {
      return register_livepatch();
    }
    if (!options_.forget.empty()) {
      return forget_registration();
    }
    auto journal = Journal::open(Journal::path());
    auto wanted = journal ? registrations(*journal) : std::unexpected(journal.error());
    if (!wanted) {
      return print_error(wanted.error(), "ensure");
    }
    if (wanted->empty()) {
      Report report;
      report.conclude(Outcome::done, "no livepatch is registered; nothing to do");
      return print_report(report, "ensure", options_.target.domain);
    }
    Outcome worst = Outcome::done;
    std::string failed;  // the domain whose further livepatches may build on what failed
    for (const Registration& registration : *wanted) {
      if (interrupt_.token().stop_requested()) {
        break;
      }
      if (registration.identity == failed) {
        continue;
      }
      if (options_.all) {
        options_.target.domain = registration.identity;
      }
      bool others_too = false;
      const Outcome outcome = ensure_one(*journal, registration, others_too);
      if (outcome != Outcome::done && outcome != Outcome::unrecorded && !others_too) {
        failed = registration.identity;
      }
      worst = worse(worst, outcome);
    }
    return worst;
  }

  Result<std::vector<Registration>> registrations(Journal& journal) {
    if (options_.all) {
      return journal.registrations({.identity = {}, .connection = options_.target.uri});
    }
    reporter_.progress("attaching to the domain");
    auto domain = open_domain(options_.target, call_options());
    return domain ? journal.registrations({.identity = (*domain)->identity(), .connection = {}})
                  : std::unexpected(domain.error());
  }

  /// `others_too`: what goes wrong says nothing of the domain's other livepatches.
  Outcome ensure_one(Journal& journal, const Registration& registration, bool& others_too) {
    const auto registered = read_registered(journal, registration);
    if (!registered) {
      return print_error(registered.error(), "ensure");
    }
    const LivepatchFile& file = registered->file;
    {
      // First without an entry in the journal: mostly there is nothing to do.
      auto session = attach();
      if (!session) {
        return print_error(session.error(), "ensure");
      }
      Context environment = context(*session, reporter_);
      const auto plan = plan_ensure(environment, file, registered->last, options_.retry_failed);
      if (!plan) {
        return print_error(plan.error(), "ensure");
      }
      others_too = plan->action == EnsureAction::other_kernel;
      if (plan->action != EnsureAction::apply) {
        return print_report(report_of(*plan, environment.domain, file.name), "ensure",
                            environment.domain);
      }
    }
    ApplyOptions how = options_.apply;
    if (auto judged = judge_signature(file, how.preflight); !judged) {
      return print_error(judged.error(), "ensure");
    }
    return change(entry_of("ensure", file), "ensure " + file.name, [&](Context& environment) {
      // Whoever held the domain's lock until now may have loaded it.
      const auto last = last_load(journal, registration);
      return ensure(environment, file, last ? *last : registered->last,
                    {how, options_.settle, options_.retry_failed});
    });
  }

  Outcome history() {
    HistoryOptions asked = options_.history;
    asked.json = options_.json;
    const auto shown = show_history(asked, out_);
    return shown ? *shown : print_error(shown.error(), "history");
  }

  /// --to and --replace-with-nop are applies, with the options of revert. Of a file that lies in
  /// the guest the signature is not judged.
  Result<ApplyOptions> roll_forward_options(const LivepatchFile* file) const {
    ApplyOptions how = options_.apply;
    how.timeout = options_.revert.timeout;
    how.on_stall = options_.revert.on_stall;
    if (file != nullptr) {
      if (auto judged = judge_signature(*file, how.preflight); !judged) {
        return std::unexpected(std::move(judged.error()));
      }
    }
    return how;
  }

  Outcome revert_to_file() {
    auto file = read_livepatch(options_.revert_to);
    if (!file) {
      return print_error(file.error(), "revert");
    }
    const auto how = roll_forward_options(&*file);
    if (!how) {
      return print_error(how.error(), "revert");
    }
    return change(
        entry_of("revert", *file), "revert to " + file->name,
        [&](Context& environment) {
          return revert_to(environment, *file, *how,
                           options_.persist ? std::optional(options_.settle) : std::nullopt);
        },
        [&](Recorder& recorder, const Domain& domain, Report& report) {
          if (options_.persist && report.outcome == Outcome::done) {
            keep_registered(recorder, domain, connection(), *file, options_.revert_to, report);
          }
          forget_others(recorder, domain, report);
        });
  }

  Outcome revert_to_nop() {
    std::optional<LivepatchFile> nop;
    if (!options_.nop.empty()) {
      auto file = read_livepatch(options_.nop);
      if (!file) {
        return print_error(file.error(), "revert");
      }
      nop = *std::move(file);
    }
    const auto how = roll_forward_options(nop ? &*nop : nullptr);
    if (!how) {
      return print_error(how.error(), "revert");
    }
    OperationStart entry{.verb = "revert", .patch = std::string(kNopModule)};
    return change(
        nop ? entry_of("revert", *nop) : std::move(entry), "revert by an empty livepatch",
        [&](Context& environment) { return replace_with_nop(environment, nop, *how); },
        forget_others);
  }

  Outcome force_transition() {
    if (options_.force_confirmation.empty() && !can_ask()) {
      return print_error({Outcome::usage,
                          "force wants the domain's name as confirmation, and there is no terminal",
                          "Give it with --yes-i-want-to-force NAME."},
                         "force");
    }
    ForceOptions how = options_.force;
    how.confirm = [this](const ForceQuestion& question) -> Result<void> {
      reporter_.finish();
      write_text(stderr, render(question, err_));
      const std::string& said = options_.force_confirmation;
      if ((said.empty() ? ask_for(question.domain, interrupt_.token()) : said) == question.domain) {
        return {};
      }
      return fail(Outcome::refused, "not confirmed by the domain's name; nothing was forced");
    };
    return change(
        {.verb = "force", .patch = how.patch}, "force " + how.patch,
        [&](Context& environment) { return force(environment, how); },
        [](Recorder& recorder, const Domain& domain, Report& report) {
          if (report.taken_out) {
            forget_registered(recorder, domain, report);
          }
        });
  }

  Outcome status_of_agent() {
    auto session = attach();
    if (!session) {
      return print_error(session.error(), "status");
    }
    Context environment = context(*session, reporter_);
    auto found = ask_status(environment);
    reporter_.finish();
    const std::string& name = session->domain->name();
    if (!found) {
      return print_error(std::move(found.error()).in_context(name), "status");
    }
    print(to_json(*found, name), render(*found, name, out_));
    return Outcome::done;
  }

  /// Runs a verb that reads the guest's memory and changes nothing.
  Outcome look(const std::string& verb) {
    reporter_.progress("reading the guest's memory");
    std::unique_ptr<Domain> domain;
    auto view = open_view(domain);
    if (!view) {
      return print_error(view.error(), verb);
    }
    Result<void> done;
    switch (options_.verb) {
      case Verb::log:
        view->let_go_of_domain();
        domain.reset();
        done = print_log(*view);
        break;
      case Verb::stacks:
        done = print_stacks(*view, domain.get());
        break;
      default:
        done = print_status(*view, domain.get());
        break;
    }
    view->keep(cache_);
    return done ? Outcome::done : print_error(done.error(), verb);
  }

  Result<GuestView> open_view(std::unique_ptr<Domain>& domain) {
    if (!options_.core.empty()) {
      return GuestView::open_core(options_.core);
    }
    auto opened = open_domain(options_.target, call_options());
    if (!opened) {
      return std::unexpected(opened.error());
    }
    domain = *std::move(opened);
    return GuestView::open(*domain, cache_, call_options());
  }

  Result<void> print_log(GuestView& view) {
    reporter_.finish();
    return read_log(view, options_.log, clock_, call_options(),
                    [&](const introspect::KernelLog& log) {
                      if (options_.json) {
                        print_json(to_json(log, view.name()));
                      } else {
                        write_text(stdout, render(log, out_));
                      }
                      // Nobody reads any more: `vpatch log -f | head` ends.
                      return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
                    });
  }

  Result<void> print_stacks(GuestView& view, Domain* domain) {
    std::optional<LivepatchFile> file;
    if (!options_.blocking.empty()) {
      auto read = read_livepatch(options_.blocking);
      if (!read) {
        return std::unexpected(read.error());
      }
      file = *std::move(read);
    }
    const StacksOptions how{.task = options_.task,
                            .blocking = file ? &*file : nullptr,
                            .paused = options_.paused,
                            .scheduler_frames = options_.scheduler_frames};
    auto report = read_stacks(view, domain, options_.target, how, call_options());
    if (!report) {
      return std::unexpected(report.error());
    }
    reporter_.finish();
    print(to_json(*report, view.name()), render(*report, out_, file.has_value()));
    return {};
  }

  Result<void> print_status(GuestView& view, Domain* domain) {
    const bool live = options_.watch && is_live(stdout) && !options_.json;
    for (;;) {
      auto found = paused_status(view, domain);
      if (!found) {
        return std::unexpected(found.error());
      }
      reporter_.finish();
      if (live) {
        write_text(stdout, "\033[H\033[2J");
      }
      print(to_json(*found, view.name()), render(*found, view.name(), out_));
      static_cast<void>(std::fflush(stdout));
      if (!options_.watch || view.is_still()) {
        return {};
      }
      clock_.wait(kWatchEach, interrupt_.token());
      if (interrupt_.token().stop_requested() || std::ferror(stdout) != 0) {
        return {};
      }
      if (auto done = view.refresh(call_options()); !done) {
        return done;
      }
    }
  }

  Result<Status> paused_status(GuestView& view, Domain* domain) {
    if (!options_.paused || domain == nullptr) {
      return read_status(view, view.is_still(), call_options());
    }
    auto pause = Pause::take(*domain, options_.target, kLookPause, call_options());
    if (!pause) {
      return std::unexpected(pause.error());
    }
    auto found = read_status(view, true, call_options());
    if (found && !pause->still_holds(call_options())) {
      found = fail(Outcome::unreachable, "the VM ran on during the look: the pause took too long",
                   "Try again when the host is less busy, or without --paused.");
    }
    if (const auto resumed = pause->resume(); !resumed) {
      return std::unexpected(resumed.error());
    }
    return found;
  }

  /// Prints a result in the form that was asked for.
  void print(const boost::json::object& json, const std::string& text) const {
    if (options_.json) {
      print_json(json);
    } else {
      write_text(stdout, text);
    }
  }

  Outcome doctor() {
    reporter_.progress("checking");
    const auto checks = diagnose(options_.target, call_options());
    reporter_.finish();
    if (options_.json) {
      print_json(to_json(checks));
    } else {
      write_text(stdout, render(checks, out_));
    }
    const bool usable = std::ranges::none_of(
        checks, [](const Check& check) { return check.health == Health::failed; });
    return usable ? Outcome::done : Outcome::unreachable;
  }

  Outcome health() {
    reporter_.progress("looking at the guest");
    const auto domain = open_domain(options_.target, call_options());
    const std::string name = domain                         ? (*domain)->name()
                             : options_.target.is_libvirt() ? options_.target.domain
                                                            : options_.target.qmp;
    const HealthReport report =
        domain ? check_health(**domain, cache_, options_.health, clock_, call_options())
               : unreachable_health(name, domain.error(), options_.health);
    reporter_.finish();
    print(to_json(report, name), render(report, out_));
    return outcome_of(report.health);
  }

  Outcome group() {
    const auto groups = change_groups(options_.target, options_.groups, call_options());
    if (!groups) {
      return print_error(groups.error(), "group");
    }
    print(to_json(*groups), render(*groups));
    return Outcome::done;
  }

  /// What `serve` answers `list` with, in a process of its own.
  Outcome list() {
    const auto domains = serve::list_domains(options_.target.uri, call_options());
    if (!domains) {
      return print_error(domains.error(), "serve");
    }
    print_json(*domains);
    return Outcome::done;
  }

  Options options_;
  Interrupt interrupt_;
  Style out_;
  Style err_;
  SteadyClock clock_;
  BootCache cache_;
  TerminalReporter reporter_;
};

/// A stream that was closed by the caller must not become the number of a socket of ours.
void open_standard_streams() {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd > STDERR_FILENO) {
      close(fd);
      break;
    }
  }
}

/// `vpatch serve --stdio`. Apart from Program: it handles signals by itself.
Outcome serve_stdio(const Options& options) {
  const auto duplicate = [](int fd) {
    return introspect::UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  };
  serve::ServerOptions how;
  how.vpatch = options.version;
  serve::run_server(duplicate(STDIN_FILENO), duplicate(STDOUT_FILENO), how);
  return Outcome::done;
}

/// `vpatch exporter`. Apart from Program, as `serve`.
Outcome export_metrics(const Options& options) {
  const Style style(!options.no_color && wants_color(stderr));
  const auto warn = [](const std::string& text) { write_text(stderr, "warning: " + text + "\n"); };
  const ExporterCommand& command = options.exporter;
  if (!command.listen.loopback) {
    warn(fmt::format("whoever reaches {} may read the page: it has no authentication",
                     command.listen.text()));
  }
  exporter::ExporterOptions how;
  how.listen = command.listen;
  how.connections = command.connections;
  how.interval = command.interval;
  how.journal = Journal::path();
  how.version = options.version;
  how.on_warning = warn;
  how.on_serving = [](const exporter::ListenAddress& address) {
    write_text(stderr, fmt::format("serving http://{}/metrics until Ctrl-C\n", address.text()));
  };
  const auto done = exporter::run_exporter(how);
  if (!done) {
    write_text(stderr, render(done.error(), style));
    return done.error().outcome;
  }
  return Outcome::done;
}

}  // namespace
}  // namespace vpatch

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string_view(argv[1]) == vpatch::kGuardianVerb) {
      return vpatch::run_guardian(argc, argv);
    }
    vpatch::open_standard_streams();
    const vpatch::Options options = vpatch::parse_command_line(argc, argv);
    if (options.verb == vpatch::Verb::none) {
      return options.exit_code;
    }
    const bool serves = options.verb == vpatch::Verb::serve && options.stdio;
    const vpatch::Outcome outcome = serves ? vpatch::serve_stdio(options)
                                    : options.verb == vpatch::Verb::exporter
                                        ? vpatch::export_metrics(options)
                                        : vpatch::Program(options).run();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      vpatch::write_text(stderr,
                         "warning: the output could not be written; the exit code is right\n");
    }
    return static_cast<int>(outcome);
  } catch (const std::exception& error) {
    vpatch::write_text(stderr, std::string("error: a bug of vpatch: ") + error.what() + "\n");
    return static_cast<int>(vpatch::Outcome::internal);
  }
}
