// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/journal/journal.h"

namespace vpatch {

// What `vpatch history` prints; the JSON is described in docs/json.md.

boost::json::object to_json(const StoredOperation& operation);
boost::json::object to_json(const StoredEvent& event);
boost::json::object to_json(const Verification& verification);

/// A table.
std::string render(const std::vector<StoredOperation>& operations, const Style& style);
/// All of one operation.
std::string render(const StoredOperation& operation, const std::vector<StoredEvent>& events,
                   const Style& style);
std::string render(const Verification& verification, const std::string& what, const Style& style);

}  // namespace vpatch
