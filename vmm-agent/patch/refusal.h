// SPDX-License-Identifier: Apache-2.0
// How the readers of a module say that its bytes cannot be right.
#pragma once

#include <string>

#include "vmm-agent/error.h"

namespace vpatch {

/// The bytes contradict themselves: a damaged file, or one made by hand.
inline std::unexpected<Error> refuse_corrupt(const std::string& what) {
  return std::unexpected(Error{
      Outcome::refused, "corrupt module: " + what,
      "Copy the module again from where it was built and compare checksums, or build it again.",
      "corrupt-module"});
}

}  // namespace vpatch
