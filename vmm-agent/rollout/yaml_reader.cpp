// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/yaml_reader.h"

#include <algorithm>
#include <charconv>
#include <ranges>

#include "vmm-agent/duration.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/yaml_fault.h"

namespace vpatch::rollout {
namespace {

/// Longer texts are no number, duration or word, and are not to fill the screen.
constexpr std::size_t kLongestWord = 64;

bool is_identifier(std::string_view text) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && alphanumeric(text.front()) && std::ranges::all_of(text, [&](char c) {
    return alphanumeric(c) || c == '.' || c == '-' || c == '_';
  });
}

/// Whether UTF-8 has one of Unicode's noncharacters: U+FDD0 to U+FDEF, and the last two of each
/// plane. yaml-cpp writes another character in their place.
bool has_noncharacter(std::string_view text) {
  const auto byte = [text](std::size_t at) { return static_cast<std::uint8_t>(text[at]); };
  for (std::size_t at = 0; at + 2 < text.size(); ++at) {
    const bool last_two = byte(at + 1) == 0xBF && byte(at + 2) >= 0xBE;
    const bool of_others = byte(at + 1) == 0xB7 && byte(at + 2) >= 0x90 && byte(at + 2) <= 0xAF;
    const bool of_four = at > 0 && byte(at - 1) >= 0xF0 && (byte(at) & 0x0FU) == 0x0F;
    if (byte(at) == 0xEF ? last_two || of_others : of_four && last_two) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool is_plain_text(std::string_view text) {
  return displayable(text) == text && !has_noncharacter(text);
}

void YamlReader::refuse(const YAML::Mark& where, std::string_view what) {
  if (error_) {
    return;
  }
  const auto place = where.is_null()
                         ? std::string()
                         : fmt::format("line {}, column {}: ", where.line + 1, where.column + 1);
  error_ = Error{Outcome::usage, place + displayable(what)};
}

YAML::Node YamlReader::document(const std::string& yaml) {
  if (const auto fault = yaml_fault(yaml)) {
    refuse(fault->where, fault->what);
    return {};
  }
  return YAML::Load(yaml);
}

void YamlReader::map(const YAML::Node& node, const std::vector<Key>& keys) {
  const auto names = fmt::format("{}", fmt::join(keys | std::views::transform(&Key::name), ", "));
  if (!node.IsMap()) {
    return refuse(node, "it must be a map with the keys " + names);
  }
  std::vector<bool> seen(keys.size());
  for (const auto& entry : node) {
    const YAML::Node& key = entry.first;
    const auto found = std::ranges::find(keys, key.Scalar(), &Key::name);
    if (!key.IsScalar() || found == keys.end()) {
      return refuse(key, fmt::format("unknown key {}; allowed here are {}",
                                     key.Scalar().substr(0, kLongestWord), names));
    }
    const auto place = static_cast<std::size_t>(found - keys.begin());
    if (seen[place]) {
      return refuse(key, fmt::format("the key {} is there twice", found->name));
    }
    seen[place] = true;
    found->read(entry.second);
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].required && !seen[i]) {
      refuse(node, fmt::format("the key {} is missing", keys[i].name));
    }
  }
}

void YamlReader::list(const YAML::Node& node, std::size_t most, const Read& read) {
  if (!node.IsSequence() || node.size() == 0 || node.size() > most) {
    return refuse(node, fmt::format("it must be a list of 1 to {} values", most));
  }
  for (const YAML::Node& value : node) {
    read(value);
  }
}

std::string YamlReader::text(const YAML::Node& node, std::size_t most) {
  if (!node.IsScalar() || node.Scalar().empty() || node.Scalar().size() > most) {
    refuse(node, fmt::format("it must be one value of 1 to {} bytes", most));
  } else if (!is_plain_text(node.Scalar())) {
    refuse(node, "it must be UTF-8 without control characters and noncharacters");
  }
  return node.Scalar();
}

std::string YamlReader::identifier(const YAML::Node& node) {
  auto name = text(node, kLongestWord);
  if (!is_identifier(name)) {
    refuse(node, fmt::format("{} must be of letters, digits, dots, dashes and underscores, a "
                             "letter or a digit first",
                             name));
  }
  return name;
}

std::string YamlReader::word(const YAML::Node& node) {
  return text(node, kLongestWord);
}

bool YamlReader::boolean(const YAML::Node& node) {
  return choice<bool>(node, {{"true", true}, {"false", false}});
}

std::uint32_t YamlReader::number(const YAML::Node& node, std::uint32_t least, std::uint32_t most) {
  const std::string digits = word(node);
  std::uint32_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, failure] = std::from_chars(digits.data(), end, value);
  if (failure != std::errc() || rest != end || value < least || value > most) {
    refuse(node, fmt::format("{} is not a whole number from {} to {}", digits, least, most));
  }
  return value;
}

std::chrono::milliseconds YamlReader::duration(const YAML::Node& node,
                                               std::chrono::milliseconds least,
                                               std::chrono::milliseconds most) {
  const auto value = parse_duration(word(node), least, most);
  if (!value) {
    refuse(node, fmt::format("{} (allowed is {} to {})", value.error().what, format_duration(least),
                             format_duration(most)));
    return least;
  }
  return *value;
}

}  // namespace vpatch::rollout
