// SPDX-License-Identifier: Apache-2.0
// A plan by flags of the command line instead of, or on top of, its file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/plan.h"

namespace vpatch::rollout {

struct PlanFlags {
  std::string name{};
  std::vector<std::string> files{};        ///< KERNEL=FILE
  std::vector<std::string> connections{};  ///< libvirt URIs
  std::vector<std::string> names{};
  std::vector<std::string> groups{};
  std::vector<std::string> except{};
  std::string canary{};              ///< an amount
  std::vector<std::string> waves{};  ///< amounts, each with its soak after a comma: "10%,5m"
  std::string on_failure{};
  std::vector<std::string> settings{};  ///< KEY=VALUE, such as "limits.budget=5%"

  bool empty() const;
};

/// The plan that a file (empty: none) and flags make together: what a flag says takes the place of
/// what the file says. Relative paths of the file are taken from `folder`, those of flags from
/// `here`. Outcome::usage.
Result<Plan> parse_plan(std::string_view yaml, const std::filesystem::path& folder,
                        const PlanFlags& flags, const std::filesystem::path& here);

}  // namespace vpatch::rollout
