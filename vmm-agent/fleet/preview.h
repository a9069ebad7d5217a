// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "vmm-agent/fleet/gather.h"
#include "vmm-agent/fleet/verb_answer.h"

namespace vpatch::fleet {

/// What would become of one domain.
struct Preview {
  rollout::DomainId domain = 0;
  VerbAnswer answer{};  ///< of `vpatch apply --dry-run`; its report is as docs/json.md has it
};

/// Has the preflight of each domain that would be patched made, as many at one time as the plan
/// allows; no guest is changed. `tell` is called as they come. Outcome::refused when interrupted.
Result<void> preview(const rollout::Plan& plan, const Gathered& gathered, const std::string& vpatch,
                     const std::stop_token& stop, const std::function<void(const Preview&)>& tell);

}  // namespace vpatch::fleet
