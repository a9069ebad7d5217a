// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/health.h"

namespace vpatch {

Outcome run_health(Program& program) {
  program.reporter.progress("looking at the guest");
  const auto domain = open_domain(program.options.target, program.call_options());
  const std::string name = domain                                ? (*domain)->name()
                           : program.options.target.is_libvirt() ? program.options.target.domain
                                                                 : program.options.target.qmp;
  const HealthReport report =
      domain ? check_health(**domain, program.cache, program.options.health, program.clock,
                            program.call_options())
             : unreachable_health(name, domain.error(), program.options.health);
  program.reporter.finish();
  program.print(to_json(report, name), render(report, program.out));
  return outcome_of(report.health);
}

}  // namespace vpatch
