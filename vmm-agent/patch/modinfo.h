// SPDX-License-Identifier: Apache-2.0
// The .modinfo section: NUL-separated "tag=value" strings that describe a module to the kernel and
// to modinfo(8).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm-agent/error.h"
#include "vmm-agent/patch/byte_view.h"

namespace vpatch {

/// A view; the section's bytes must outlive it.
class Modinfo {
 public:
  /// Errors: Outcome::refused when the last string does not end inside the section.
  static Result<Modinfo> parse(ByteView section);

  /// The value of the first `tag`, which is the one the kernel uses; empty when there is none.
  std::string_view first(std::string_view tag) const;

 private:
  std::vector<std::pair<std::string_view, std::string_view>> tags_;
};

/// Whether `name` can be a module's name: 1 to 55 of [A-Za-z0-9_-] (MODULE_NAME_LEN without the
/// NUL).
bool is_module_name(std::string_view name);

/// 1 or more bytes, all printable ASCII (space included).
bool is_printable_ascii(std::string_view text);

/// Free text made safe for a terminal: control characters become spaces, and everything that is not
/// ASCII becomes '?' unless the whole text is valid UTF-8.
std::string displayable(std::string_view text);

}  // namespace vpatch
