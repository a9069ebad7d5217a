// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/change.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/signature_rules.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/apply.h"
#include "vmm-agent/operation/settle.h"

namespace vpatch {

Outcome run_apply(Program& program) {
  auto file = read_livepatch(program.options.file);
  if (!file) {
    return program.print_error(file.error(), "apply");
  }
  ApplyOptions how = program.options.apply;
  if (auto judged = judge_signature(*file, program.options.signature, how.preflight); !judged) {
    return program.print_error(judged.error(), "apply");
  }
  return change(
      program, entry_of("apply", *file), "apply " + file->name,
      [&](Context& environment) {
        return program.options.persist
                   ? apply_and_watch(environment, *file, how, program.options.settle)
                   : apply(environment, *file, how);
      },
      [&](Recorder& recorder, const Domain& domain, Report& report) {
        if (report.outcome != Outcome::done) {
          return;
        }
        if (program.options.persist) {
          keep_registered(recorder, domain, program.connection(), *file, program.options.file,
                          report);
        } else {
          warn_of_registered(recorder, domain, *file, report);
        }
      });
}

}  // namespace vpatch
