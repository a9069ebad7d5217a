// SPDX-License-Identifier: Apache-2.0
// What `vpatch rollout report` and `vpatch rollout status` tell of a rollout.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/fleet/rollout_store.h"
#include "vmm-agent/rollout/window.h"

namespace vpatch::fleet {

/// For --json, field by field in docs/json.md. All text in it is printable; `verb` goes into it.
boost::json::object to_json(const StoredRollout& rollout, const std::vector<RolloutEvent>& events,
                            std::string_view verb);

/// The same for people: one HTML page that loads nothing and needs no script, and is well-formed
/// XML too. What guests and hosts have written is text in it and nothing else. Of more than 200
/// failures the first are told in full, and of more than 2,000 domains only those that are not
/// done.
std::string report_page(const StoredRollout& rollout, const std::vector<RolloutEvent>& events,
                        rollout::Time now);

}  // namespace vpatch::fleet
