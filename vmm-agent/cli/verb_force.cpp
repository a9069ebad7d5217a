// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "vmm-agent/cli/change.h"
#include "vmm-agent/cli/confirm.h"
#include "vmm-agent/cli/registered.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/force.h"

namespace vpatch {

Outcome run_force(Program& program) {
  if (program.options.force_confirmation.empty() && !can_ask()) {
    return program.print_error(
        {Outcome::usage, "force wants the domain's name as confirmation, and there is no terminal",
         "Give it with --yes-i-want-to-force NAME."},
        "force");
  }
  ForceOptions how = program.options.force;
  how.confirm = [&program](const ForceQuestion& question) -> Result<void> {
    program.reporter.finish();
    write_text(stderr, render(question, program.err));
    const std::string& said = program.options.force_confirmation;
    if ((said.empty() ? ask_for(question.domain, program.interrupt.token()) : said) ==
        question.domain) {
      return {};
    }
    return fail(Outcome::refused, "not confirmed by the domain's name; nothing was forced");
  };
  return change(
      program, {.verb = "force", .patch = how.patch}, "force " + how.patch,
      [&](Context& environment) { return force(environment, how); },
      [](Recorder& recorder, const Domain& domain, Report& report) {
        if (report.taken_out) {
          forget_registered(recorder, domain, report);
        }
      });
}

}  // namespace vpatch
