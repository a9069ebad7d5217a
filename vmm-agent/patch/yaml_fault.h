// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include <yaml-cpp/mark.h>

namespace vpatch {

struct YamlFault {
  YAML::Mark where;
  std::string what;
};

/// Why YAML::Load() would not read all of a text, which it does not say: a control character, of
/// which some are the end for it, or a second document. Throws what yaml-cpp throws.
std::optional<YamlFault> yaml_fault(const std::string& text);

}  // namespace vpatch
