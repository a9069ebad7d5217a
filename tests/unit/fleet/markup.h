// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vpatch::fleet {

/// What a page is made of, read as XML; content that is no tag is in `text`.
struct Markup {
  struct Attribute {
    std::string element, name, value;
  };
  std::vector<std::string> elements;
  std::vector<Attribute> attributes;
  std::string text;
  std::string error;  ///< the first fault; empty: well-formed
};

Markup read_markup(std::string_view page);

}  // namespace vpatch::fleet
