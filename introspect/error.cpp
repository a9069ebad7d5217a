// SPDX-License-Identifier: Apache-2.0
#include "introspect/error.h"

namespace vpatch::introspect {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::no_memory:
      return "no-memory";
    case Errc::permission:
      return "permission";
    case Errc::out_of_range:
      return "out-of-range";
    case Errc::not_found:
      return "not-found";
    case Errc::ambiguous:
      return "ambiguous";
    case Errc::torn:
      return "torn";
    case Errc::corrupt:
      return "corrupt";
    case Errc::io:
      return "io";
  }
  return "unknown";
}

}  // namespace vpatch::introspect
