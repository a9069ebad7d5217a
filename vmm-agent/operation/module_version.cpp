// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/module_version.h"

#include <algorithm>

namespace vpatch {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Takes the next run of digits or of letters off the front; empty at the end.
std::string_view take_part(std::string_view& text) {
  const auto start = std::ranges::find_if(text, [](char c) { return is_digit(c) || is_letter(c); });
  text.remove_prefix(static_cast<std::size_t>(start - text.begin()));
  if (text.empty()) {
    return {};
  }
  const auto same = is_digit(text.front()) ? is_digit : is_letter;
  const auto end = std::ranges::find_if_not(text, same);
  const auto part = text.substr(0, static_cast<std::size_t>(end - text.begin()));
  text.remove_prefix(part.size());
  return part;
}

std::strong_ordering compare_numbers(std::string_view a, std::string_view b) {
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  return a.size() != b.size() ? a.size() <=> b.size() : a <=> b;
}

}  // namespace

std::strong_ordering compare_versions(std::string_view a, std::string_view b) {
  for (;;) {
    const auto left = take_part(a);
    const auto right = take_part(b);
    if (left.empty() || right.empty()) {
      return !left.empty() <=> !right.empty();
    }
    const bool numbers = is_digit(left.front()) && is_digit(right.front());
    const auto order = numbers ? compare_numbers(left, right) : left <=> right;
    if (order != std::strong_ordering::equal) {
      return order;
    }
  }
}

}  // namespace vpatch
