// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/json.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/render.h"
#include "vmm-agent/cli/verbs.h"
#include "vmm-agent/domain/domain_groups.h"

namespace vpatch {

Outcome run_group(Program& program) {
  const auto groups =
      change_groups(program.options.target, program.options.groups, program.call_options());
  if (!groups) {
    return program.print_error(groups.error(), "group");
  }
  program.print(to_json(*groups), render(*groups));
  return Outcome::done;
}

}  // namespace vpatch
