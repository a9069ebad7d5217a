// SPDX-License-Identifier: Apache-2.0
// From a request to the command line of the vpatch process that does the work. Here is decided what
// the driver of a rollout may ask of this host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/error.h"
#include "vmm-agent/serve/session_files.h"

namespace vpatch::serve {

struct VerbCommand {
  std::vector<std::string> words;  ///< without the program's name
  int file = -1;                   ///< the livepatch, which the words name as kChildFile
};

/// Whether `method` is one that a process is started for.
bool is_verb(std::string_view method);

/// `method` is a verb. Outcome::refused, with what is wrong, for a parameter that is missing, not
/// known, of another type or out of bounds; for a connection that is not one of this host; for an
/// option that is not in the list of docs/serve.md; for a file that was not put.
Result<VerbCommand> command_of(std::string_view method, const boost::json::object& params,
                               const SessionFiles& files);

}  // namespace vpatch::serve
