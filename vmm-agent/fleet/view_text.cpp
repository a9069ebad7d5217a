// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/view_text.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "vmm-agent/fleet/page_text.h"

namespace vpatch::fleet {
namespace {

struct Character {
  std::string_view bytes;
  std::size_t columns;
};

/// Whether terminals give it two columns: what Unicode calls wide, with some that it does not.
bool is_wide(std::uint32_t code) {
  struct Range {
    std::uint32_t first, last;
  };
  constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                           {0x2300, 0x23FF},
                                           {0x2600, 0x27BF},
                                           {0x2B00, 0x2BFF},
                                           {0x2E80, 0xA4CF},
                                           {0xA960, 0xA97F},
                                           {0xAC00, 0xD7A3},
                                           {0xF900, 0xFAFF},
                                           {0xFE30, 0xFE6F}}};
  return (code >= 0xFF00 && code <= 0xFFE6) || code >= 0x10000 ||
         std::ranges::any_of(kWide, [code](const Range& range) {
           return code >= range.first && code <= range.last;
         });
}

/// The first character of what shown_text() gave.
Character first_of(std::string_view text) {
  const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned lead = byte(0);
  const std::size_t length = std::min<std::size_t>(lead < 0x80   ? 1
                                                   : lead < 0xE0 ? 2
                                                   : lead < 0xF0 ? 3
                                                                 : 4,
                                                   text.size());
  std::uint32_t code = length == 1 ? lead : lead & (0xFFU >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) {
    code = (code << 6U) | (byte(at) & 0x3FU);
  }
  return {text.substr(0, length), is_wide(code) ? std::size_t{2} : std::size_t{1}};
}

/// As much of it as has at most so many columns.
std::string_view beginning(std::string_view text, std::size_t columns) {
  std::size_t taken = 0;
  while (taken < text.size()) {
    const Character next = first_of(text.substr(taken));
    if (next.columns > columns) {
      break;
    }
    columns -= next.columns;
    taken += next.bytes.size();
  }
  return text.substr(0, taken);
}

std::string_view code_of(Tone tone) {
  constexpr std::array<std::string_view, 6> kCodes = {"", "32", "31;1", "33", "36", "2"};
  return kCodes.at(static_cast<std::size_t>(tone));
}

}  // namespace

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const Character next = first_of(text);
    columns += next.columns;
    text.remove_prefix(next.bytes.size());
  }
  return columns;
}

std::string cut_to(std::string_view text, std::size_t columns) {
  constexpr std::string_view kMore = "...";
  if (columns_of(text) <= columns) {
    return std::string(text);
  }
  const std::string_view more = kMore.substr(0, columns);
  return std::string(beginning(text, columns - more.size())).append(more);
}

ViewLine& ViewLine::add(std::string_view text, Tone tone) {
  const std::string shown = cut_to(shown_text(text), left_);
  left_ -= columns_of(shown);
  if (shown.empty() || !color_ || tone == Tone::plain) {
    text_ += shown;
  } else {
    text_ += fmt::format("\033[{}m{}\033[0m", code_of(tone), shown);
  }
  return *this;
}

ViewLine& ViewLine::field(std::string_view text, std::size_t columns, Tone tone) {
  const std::string shown = cut_to(shown_text(text), columns);
  add(shown, tone);
  const std::size_t fill = std::min(columns - columns_of(shown), left_);
  left_ -= fill;
  text_.append(fill, ' ');
  return *this;
}

}  // namespace vpatch::fleet
