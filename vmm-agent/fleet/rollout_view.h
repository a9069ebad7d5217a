// SPDX-License-Identifier: Apache-2.0
// How a rollout is shown while it runs.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include <boost/json/object.hpp>

#include "vmm-agent/fleet/rollout_store.h"

namespace vpatch::fleet {

/// What the terminal is like, and whether it takes colours.
struct ViewSize {
  std::size_t width = 80;  ///< columns
  std::size_t height = 24;
  bool color = false;
};

/// The live view: at most `height` lines of at most `width` columns, each with its end: how the
/// rollout stands, its waves, the domains at work with what their verbs say (`doing`), the latest
/// finished and the failures. Where not all fits, the most important, and how many more there are.
std::string render_rollout(const StoredRollout& rollout, const rollout::Summary& summary,
                           const std::map<rollout::DomainId, std::string>& doing, rollout::Time now,
                           const ViewSize& size);

/// The same news for what is no terminal: one line, with its end.
std::string plain_line(const StoredRollout& rollout, const RolloutEvent& event);

/// And for `--json`: one object a line, field by field in docs/json.md.
boost::json::object json_event(const StoredRollout& rollout, const RolloutEvent& event);

}  // namespace vpatch::fleet
