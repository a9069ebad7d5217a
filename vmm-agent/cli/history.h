// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/journal/journal.h"

namespace vpatch {

/// What `vpatch history` is asked for; without any of the optional ones, a list.
struct HistoryOptions {
  OperationFilter filter;
  std::optional<std::string> export_to;  ///< a file, or empty: standard output
  std::optional<std::string> verify;     ///< an exported file, or empty: the journal
  bool json = false;
};

/// Prints it. Outcome::refused when what was to be verified does not hold; an error when something
/// could not be read or written.
Result<Outcome> show_history(const HistoryOptions& options, const Style& style);

}  // namespace vpatch
