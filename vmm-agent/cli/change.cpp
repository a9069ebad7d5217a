// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/change.h"

#include <optional>
#include <utility>

#include "vmm-agent/assist/transition_assist.h"
#include "vmm-agent/cli/json.h"
#include "vmm-agent/domain/domain_lock.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/memory_introspection.h"

namespace vpatch {

OperationStart entry_of(const std::string& verb, const LivepatchFile& file) {
  return {.verb = verb,
          .patch = file.name,
          .patch_version = file.version,
          .file_sha256 = file.sha256,
          .patch_build_id = file.build_id};
}

Outcome change(Program& program, OperationStart entry, const std::string& what,
               const std::function<Report(Context&)>& operation,
               const std::function<void(Recorder&, const Domain&, Report&)>& keep) {
  const std::string verb = entry.verb;
  auto session = program.attach();
  if (!session) {
    return program.print_error(session.error(), verb);
  }
  const Domain& domain = *session->domain;
  auto lock = DomainLock::acquire(domain.identity(), domain.name(), what);
  if (!lock) {
    return program.print_error(lock.error(), verb);
  }
  Recorder recorder(program.reporter);
  if (!program.options.apply.dry_run) {
    entry.domain = domain.name();
    entry.identity = domain.identity();
    recorder.begin(std::move(entry));
  }
  Context environment = program.context(*session, recorder);
  auto view = GuestView::open(*session->domain, program.cache, program.call_options());
  std::optional<MemoryIntrospection> introspection;
  std::optional<TransitionAssist> assistance;
  if (view) {
    introspection.emplace(*view);
    environment.introspection = &*introspection;
    assistance.emplace(AssistSetup{
        .view = *view,
        .domain = *session->domain,
        .target = program.options.target,
        .options = program.options.assist,
        .call_timeout = program.options.agent_timeout,
        .on_pause = [&recorder](const std::string& patch, const SwitchOutcome& outcome) {
          recorder.event("switch", to_json(outcome, patch));
        }});
    environment.assistance = &*assistance;
  } else {
    recorder.warning("nothing is foretold or proved from guest memory: " + view.error().what);
  }
  Report report = operation(environment);
  if (view) {
    view->keep(program.cache);
  }
  if (keep && !program.options.apply.dry_run) {
    keep(recorder, domain, report);
  }
  recorder.end(report, view ? view->kernel().info().release : "");
  return program.print_report(report, verb, domain.name(), recorder.failure());
}

}  // namespace vpatch
