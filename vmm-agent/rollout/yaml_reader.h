// SPDX-License-Identifier: Apache-2.0
// Reads YAML of which every value is checked. The first error is kept, with its line and column;
// what is read after it is of no use.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "vmm-agent/error.h"

namespace vpatch::rollout {

/// Whether it is UTF-8 without control characters and Unicode's noncharacters.
bool is_plain_text(std::string_view text);

class YamlReader {
 public:
  using Read = std::function<void(const YAML::Node& value)>;

  struct Key {
    std::string_view name;
    Read read;  ///< called at most once
    bool required = false;
  };

  /// Keeps the error: Outcome::usage.
  void refuse(const YAML::Mark& where, std::string_view what);
  void refuse(const YAML::Node& at, std::string_view what) { refuse(at.Mark(), what); }
  const std::optional<Error>& error() const { return error_; }

  /// The text's only document; what YAML::Load() would leave out is refused. Throws what yaml-cpp
  /// throws.
  YAML::Node document(const std::string& yaml);
  /// A map with no keys but these, each at most once.
  void map(const YAML::Node& node, const std::vector<Key>& keys);
  /// A list of at least one value.
  void list(const YAML::Node& node, std::size_t most, const Read& read);

  /// One value of one line: 1 to `most` bytes of plain text.
  std::string text(const YAML::Node& node, std::size_t most);
  /// The same of letters, digits, dots, dashes and underscores, a letter or a digit first.
  std::string identifier(const YAML::Node& node);
  bool boolean(const YAML::Node& node);
  std::uint32_t number(const YAML::Node& node, std::uint32_t least, std::uint32_t most);
  /// As parse_duration() takes it.
  std::chrono::milliseconds duration(const YAML::Node& node, std::chrono::milliseconds least,
                                     std::chrono::milliseconds most);
  /// The same, but no part of a `Unit`.
  template <class Unit>
  Unit whole(const YAML::Node& node, Unit least, Unit most);

  template <class T>
  T choice(const YAML::Node& node, std::initializer_list<std::pair<std::string_view, T>> choices);

 private:
  std::string word(const YAML::Node& node);

  std::optional<Error> error_;
};

template <class Unit>
Unit YamlReader::whole(const YAML::Node& node, Unit least, Unit most) {
  const auto exact = duration(node, least, most);
  const auto cut = std::chrono::floor<Unit>(exact);
  if (cut != exact) {
    refuse(node, Unit(1) == std::chrono::minutes(1) ? "it must be whole minutes, such as 30m"
                                                    : "it must be whole seconds, such as 90s");
  }
  return cut;
}

template <class T>
T YamlReader::choice(const YAML::Node& node,
                     std::initializer_list<std::pair<std::string_view, T>> choices) {
  const std::string chosen = word(node);
  std::vector<std::string_view> words;
  for (const auto& [name, meaning] : choices) {
    if (name == chosen) {
      return meaning;
    }
    words.push_back(name);
  }
  refuse(node, fmt::format("{} is not one of {}", chosen, fmt::join(words, ", ")));
  return choices.begin()->second;
}

}  // namespace vpatch::rollout
