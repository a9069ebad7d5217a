// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/page_text.h"

#include "vmm-agent/serve/protocol.h"

namespace vpatch::fleet {
namespace {

/// Of a character of three bytes, which all of these are.
bool is_misleading(unsigned first, unsigned second, unsigned third) {
  const unsigned code = ((first & 0x0FU) << 12U) | ((second & 0x3FU) << 6U) | (third & 0x3FU);
  return (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x2069) || code == 0xFEFF || code == 0xFFFE || code == 0xFFFF;
}

}  // namespace

std::string shown_text(std::string_view text, std::size_t limit) {
  const std::string valid = serve::printable(text, limit);
  std::string shown;
  shown.reserve(valid.size());
  const auto byte = [&valid](std::size_t at) { return static_cast<unsigned char>(valid[at]); };
  for (std::size_t at = 0; at < valid.size(); ++at) {
    if ((byte(at) & 0xF0U) == 0xE0U && is_misleading(byte(at), byte(at + 1), byte(at + 2))) {
      shown += '?';
      at += 2;
    } else {
      shown += valid[at];
    }
  }
  return shown;
}

std::string page_text(std::string_view text, std::size_t limit) {
  std::string escaped;
  for (const char c : shown_text(text, limit)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace vpatch::fleet
