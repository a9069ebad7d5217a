// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace vpatch {

enum class Severity : std::uint8_t { note, warning, error };

std::string_view to_string(Severity severity);

/// One thing an operation has to say of a patch or a guest. `id` is stable, for scripts.
struct Finding {
  Severity severity = Severity::note;
  std::string id;
  std::string text;
  std::string hint{};           ///< the next step; empty when none is needed
  std::string row{};            ///< of docs/livepatch.md, such as "R7"; empty when none is meant
  std::string overridden_by{};  ///< the flag that makes an error a warning; empty when none may

  bool operator==(const Finding&) const = default;
};

/// "text [id, R7, --flag overrides it]"
std::string describe(const Finding& finding);

}  // namespace vpatch
