// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/finding.h"

#include <fmt/format.h>

namespace vpatch {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    case Severity::error:
      break;
  }
  return "error";
}

std::string describe(const Finding& finding) {
  const bool may_override = finding.severity == Severity::error && !finding.overridden_by.empty();
  return fmt::format("{} [{}{}{}{}]", finding.text, finding.id, finding.row.empty() ? "" : ", ",
                     finding.row,
                     may_override ? fmt::format(", {} overrides it", finding.overridden_by) : "");
}

}  // namespace vpatch
