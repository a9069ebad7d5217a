// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vpatch::fleet {

/// Text from outside as a person may read it: serve::printable(), and '?' also for characters that
/// turn the direction of text or have no shape (U+200B to U+200F, U+2028 to U+202E, U+2060 to
/// U+2069, U+FEFF) and for those that no document may hold (U+FFFE, U+FFFF). At most `limit` bytes.
std::string shown_text(std::string_view text, std::size_t limit = 1000);

/// The same as content, or as the value of a quoted attribute, of an HTML or XML document.
std::string page_text(std::string_view text, std::size_t limit = 1000);

}  // namespace vpatch::fleet
