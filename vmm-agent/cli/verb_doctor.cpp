// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/operation/doctor.h"

namespace vpatch {

Outcome run_doctor(Program& program) {
  program.reporter.progress("checking");
  const auto checks = diagnose(program.options.target, program.call_options());
  program.reporter.finish();
  program.print(to_json(checks), render(checks, program.out));
  const bool usable = std::ranges::none_of(
      checks, [](const Check& check) { return check.health == Health::failed; });
  return usable ? Outcome::done : Outcome::unreachable;
}

}  // namespace vpatch
