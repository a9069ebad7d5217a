// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/modinfo.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxModuleName = 55;

/// The length of the UTF-8 sequence that starts `text` (2 to 4); 0 when it is none, is overlong, a
/// surrogate, past U+10FFFF or one of the control characters U+0080 to U+009F.
std::size_t utf8_sequence(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = at(0);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  std::uint32_t code = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (at(i) & 0x3FU);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0xA0, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code < kSmallest[length] || code > 0x10FFFF || surrogate ? 0 : length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const bool ascii = static_cast<std::uint8_t>(text.front()) < 0x80;
    const std::size_t length = ascii ? 1 : utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

Result<Modinfo> Modinfo::parse(ByteView section) {
  Modinfo info;
  std::string_view rest = section.text();
  if (!rest.empty() && rest.back() != '\0')
    return refuse_corrupt(".modinfo does not end with a NUL");
  while (!rest.empty()) {
    const auto entry = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(entry.size() + 1);
    const auto equals = entry.find('=');
    if (equals == std::string_view::npos) continue;  // padding between strings, or no tag
    info.tags_.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return info;
}

std::string_view Modinfo::first(std::string_view tag) const {
  const auto it = std::ranges::find(tags_, tag, [](const auto& entry) { return entry.first; });
  return it == tags_.end() ? std::string_view{} : it->second;
}

bool is_module_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= kMaxModuleName && std::ranges::all_of(name, allowed);
}

bool is_printable_ascii(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

std::string displayable(std::string_view text) {
  const bool keep_high = is_utf8(text);
  std::string shown(text);
  for (char& c : shown) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x20 || byte == 0x7F) c = ' ';
    if (byte >= 0x80 && !keep_high) c = '?';
  }
  return shown;
}

}  // namespace vpatch
