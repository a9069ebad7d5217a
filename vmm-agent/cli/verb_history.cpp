// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/history.h"
#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/verbs.h"

namespace vpatch {

Outcome run_history(Program& program) {
  HistoryOptions asked = program.options.history;
  asked.json = program.options.json;
  const auto shown = show_history(asked, program.out);
  return shown ? *shown : program.print_error(shown.error(), "history");
}

}  // namespace vpatch
