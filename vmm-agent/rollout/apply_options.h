// SPDX-License-Identifier: Apache-2.0
// The options of `vpatch apply` that a plan may set, with the limits that the command line has.
#pragma once

#include <string>
#include <vector>

#include "vmm-agent/rollout/yaml_reader.h"

namespace vpatch::rollout {

/// A plan's map `apply` as words of the command line, one for each value: "--timeout=90s",
/// "--allow-stacking". What is false gives none. What names a file of the host (--cert, --policy)
/// is not among them: each host has its own policy.
std::vector<std::string> read_apply_options(YamlReader& reader, const YAML::Node& node);

/// How long an apply may take by those of the words that set times.
std::chrono::milliseconds time_asked_for(const std::vector<std::string>& words);

/// Writes the words as the map that they were read from.
void write_apply_options(YAML::Emitter& out, const std::vector<std::string>& words);

}  // namespace vpatch::rollout
