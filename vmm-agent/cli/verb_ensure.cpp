// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "vmm-agent/cli/change.h"
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/signature_rules.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/ensure.h"

namespace vpatch {
namespace {

/// Of two, the one that asks for more attention.
Outcome worse(Outcome a, Outcome b) {
  const auto rank = [](Outcome outcome) {
    return outcome == Outcome::unrecorded ? 1 : static_cast<int>(outcome);
  };
  return rank(a) < rank(b) ? b : a;
}

/// Without the VM, which may be gone for ever.
Outcome forget_registration(Program& program) {
  const std::string& of = program.options.target.domain;
  auto journal = Journal::open(Journal::path());
  auto all = journal ? journal->registrations({}) : std::unexpected(journal.error());
  if (!all) {
    return program.print_error(all.error(), "ensure");
  }
  std::erase_if(*all, [&](const Registration& one) {
    return one.patch != program.options.forget || (one.domain != of && one.identity != of);
  });
  if (all->empty()) {
    return program.print_error(
        {Outcome::refused, fmt::format("{} is not registered for {}", program.options.forget, of),
         "`vpatch ensure --list` shows what is registered.", "not-registered"},
        "ensure");
  }
  if (all->size() > 1) {
    return program.print_error(
        {Outcome::refused,
         fmt::format("{} is registered for {} domains named {}", program.options.forget,
                     all->size(), of),
         "Give the identity of the one that is meant; `vpatch history --json` has it."},
        "ensure");
  }
  const Registration& one = all->front();
  Recorder recorder(program.reporter);
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
  return program.print_report(report, "ensure", one.domain, recorder.failure());
}

Outcome register_livepatch(Program& program) {
  auto file = read_livepatch(program.options.file);
  if (!file) {
    return program.print_error(file.error(), "ensure");
  }
  PreflightOptions rules = program.options.apply.preflight;
  if (auto judged = judge_signature(*file, program.options.signature, rules); !judged) {
    return program.print_error(judged.error(), "ensure");
  }
  const auto domain = open_domain(program.options.target, program.call_options());
  if (!domain) {
    return program.print_error(domain.error(), "ensure");
  }
  Recorder recorder(program.reporter);
  const Report report =
      register_file(recorder, **domain, program.connection(), *file, program.options.file, rules);
  return program.print_report(report, "ensure", (*domain)->name(), recorder.failure());
}

Outcome list_registrations(Program& program) {
  auto journal = Journal::open(Journal::path());
  const auto found =
      journal ? registrations_of(*journal, program.options.target, program.call_options())
              : std::unexpected(journal.error());
  if (!found) {
    return program.print_error(found.error(), "ensure");
  }
  program.print(to_json(*found), render(*found));
  return Outcome::done;
}

Result<std::vector<Registration>> registrations(Program& program, Journal& journal) {
  if (program.options.all) {
    return journal.registrations({.identity = {}, .connection = program.options.target.uri});
  }
  program.reporter.progress("attaching to the domain");
  auto domain = open_domain(program.options.target, program.call_options());
  return domain ? journal.registrations({.identity = (*domain)->identity(), .connection = {}})
                : std::unexpected(domain.error());
}

/// `others_too`: what goes wrong says nothing of the domain's other livepatches.
Outcome ensure_one(Program& program, Journal& journal, const Registration& registration,
                   bool& others_too) {
  const auto registered = read_registered(journal, registration);
  if (!registered) {
    return program.print_error(registered.error(), "ensure");
  }
  const LivepatchFile& file = registered->file;
  {
    // First without an entry in the journal: mostly there is nothing to do.
    auto session = program.attach();
    if (!session) {
      return program.print_error(session.error(), "ensure");
    }
    Context environment = program.context(*session, program.reporter);
    const auto plan =
        plan_ensure(environment, file, registered->last, program.options.retry_failed);
    if (!plan) {
      return program.print_error(plan.error(), "ensure");
    }
    others_too = plan->action == EnsureAction::other_kernel;
    if (plan->action != EnsureAction::apply) {
      return program.print_report(report_of(*plan, environment.domain, file.name), "ensure",
                                  environment.domain);
    }
  }
  ApplyOptions how = program.options.apply;
  if (auto judged = judge_signature(file, program.options.signature, how.preflight); !judged) {
    return program.print_error(judged.error(), "ensure");
  }
  return change(program, entry_of("ensure", file), "ensure " + file.name,
                [&](Context& environment) {
                  // Whoever held the domain's lock until now may have loaded it.
                  const auto last = last_load(journal, registration);
                  return ensure(environment, file, last ? *last : registered->last,
                                {how, program.options.settle, program.options.retry_failed});
                });
}

}  // namespace

Outcome run_ensure(Program& program) {
  if (program.options.list) {
    return list_registrations(program);
  }
  if (!program.options.file.empty()) {
    return register_livepatch(program);
  }
  if (!program.options.forget.empty()) {
    return forget_registration(program);
  }
  auto journal = Journal::open(Journal::path());
  auto wanted = journal ? registrations(program, *journal) : std::unexpected(journal.error());
  if (!wanted) {
    return program.print_error(wanted.error(), "ensure");
  }
  if (wanted->empty()) {
    Report report;
    report.conclude(Outcome::done, "no livepatch is registered; nothing to do");
    return program.print_report(report, "ensure", program.options.target.domain);
  }
  Outcome worst = Outcome::done;
  std::string failed;  // the domain whose further livepatches may build on what failed
  for (const Registration& registration : *wanted) {
    if (program.interrupt.token().stop_requested()) {
      break;
    }
    if (registration.identity == failed) {
      continue;
    }
    if (program.options.all) {
      program.options.target.domain = registration.identity;
    }
    bool others_too = false;
    const Outcome outcome = ensure_one(program, *journal, registration, others_too);
    if (outcome != Outcome::done && outcome != Outcome::unrecorded && !others_too) {
      failed = registration.identity;
    }
    worst = worse(worst, outcome);
  }
  return worst;
}

}  // namespace vpatch
