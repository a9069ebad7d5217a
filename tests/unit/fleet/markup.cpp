// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/fleet/markup.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

namespace vpatch::fleet {
namespace {

bool is_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == ':' || c == '_';
}

class Reader {
 public:
  explicit Reader(std::string_view page) : rest_(page) {}

  Markup read() {
    constexpr std::string_view kDoctype = "<!DOCTYPE html>\n";
    if (rest_.starts_with(kDoctype)) {
      rest_.remove_prefix(kDoctype.size());
    } else {
      fault("no doctype");
    }
    while (!rest_.empty() && markup_.error.empty()) {
      if (rest_.front() == '<') {
        tag();
      } else {
        markup_.text += plain(rest_.substr(0, rest_.find('<')));
      }
    }
    if (!open_.empty()) {
      fault("open: " + open_.back());
    }
    return std::move(markup_);
  }

 private:
  void fault(const std::string& text) {
    if (markup_.error.empty()) {
      markup_.error = fmt::format("{} before '{}'", text, rest_.substr(0, 60));
    }
  }

  /// Takes text off, and its entities apart.
  std::string plain(std::string_view text) {
    constexpr std::array<std::pair<std::string_view, char>, 5> kEntities = {
        {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}}};
    rest_.remove_prefix(text.size());
    std::string result;
    while (!text.empty()) {
      const char c = text.front();
      const auto* entity = std::ranges::find_if(
          kEntities, [text](const auto& known) { return text.starts_with(known.first); });
      if (c == '&' && entity == kEntities.end()) {
        fault("a bare &");
      }
      if ((static_cast<unsigned char>(c) < ' ' && c != '\n') || c == 0x7f) {
        fault("a control character");
      }
      result += c == '&' && entity != kEntities.end() ? entity->second : c;
      text.remove_prefix(c == '&' && entity != kEntities.end() ? entity->first.size() : 1);
    }
    return result;
  }

  std::string name() {
    const auto end = std::ranges::find_if_not(rest_, is_name);
    const std::string found(rest_.begin(), end);
    rest_.remove_prefix(found.size());
    if (found.empty()) {
      fault("no name");
    }
    return found;
  }

  void tag() {
    rest_.remove_prefix(1);
    if (rest_.starts_with('/')) {
      rest_.remove_prefix(1);
      const std::string closed = name();
      if (open_.empty() || open_.back() != closed || !rest_.starts_with('>')) {
        fault("does not close what is open: " + closed);
        return;
      }
      rest_.remove_prefix(1);
      open_.pop_back();
      return;
    }
    const std::string element = name();
    markup_.elements.push_back(element);
    while (rest_.starts_with(' ') && markup_.error.empty()) {
      rest_.remove_prefix(1);
      attribute(element);
    }
    if (rest_.starts_with("/>")) {
      rest_.remove_prefix(2);
    } else if (rest_.starts_with('>')) {
      rest_.remove_prefix(1);
      open_.push_back(element);
    } else {
      fault("a tag without an end");
    }
  }

  void attribute(const std::string& element) {
    const std::string key = name();
    if (!rest_.starts_with("=\"")) {
      fault("no quoted value");
      return;
    }
    rest_.remove_prefix(2);
    const std::size_t end = rest_.find('"');
    if (end == std::string_view::npos || rest_.substr(0, end).contains('<')) {
      fault("no end of the value");
      return;
    }
    markup_.attributes.push_back({element, key, plain(rest_.substr(0, end))});
    rest_.remove_prefix(1);
  }

  std::string_view rest_;
  std::vector<std::string> open_;
  Markup markup_;
};

}  // namespace

Markup read_markup(std::string_view page) {
  return Reader(page).read();
}

}  // namespace vpatch::fleet
