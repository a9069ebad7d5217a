// SPDX-License-Identifier: Apache-2.0
// Text of a known width, for a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vpatch::fleet {

/// How many columns a terminal shows it in, at most: two for each character of East Asia and each
/// emoji, one for any other. The text is shown_text().
std::size_t columns_of(std::string_view text);
/// Its beginning, with "..." at the end where it has more than `columns`.
std::string cut_to(std::string_view text, std::size_t columns);

enum class Tone : std::uint8_t { plain, good, bad, doubtful, busy, faint };

/// One line of at most `columns`, made of pieces with colours or without.
class ViewLine {
 public:
  ViewLine(std::size_t columns, bool color) : left_(columns), color_(color) {}

  /// Cut where it does not fit. What has no place at all is dropped.
  ViewLine& add(std::string_view text, Tone tone = Tone::plain);
  /// In so many columns, filled up or cut.
  ViewLine& field(std::string_view text, std::size_t columns, Tone tone = Tone::plain);
  std::size_t left() const { return left_; }
  std::string take() && { return std::move(text_); }

 private:
  std::string text_;
  std::size_t left_;
  bool color_;
};

}  // namespace vpatch::fleet
