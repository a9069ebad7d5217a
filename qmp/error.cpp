// SPDX-License-Identifier: Apache-2.0
#include "qmp/error.h"

namespace vpatch::qmp {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::connect:
      return "connect";
    case Errc::closed:
      return "closed";
    case Errc::timeout:
      return "timeout";
    case Errc::cancelled:
      return "cancelled";
    case Errc::protocol:
      return "protocol";
    case Errc::too_large:
      return "too_large";
    case Errc::command:
      return "command";
    case Errc::argument:
      return "argument";
  }
  return "unknown";
}

}  // namespace vpatch::qmp
