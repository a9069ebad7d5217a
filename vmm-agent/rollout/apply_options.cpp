// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/apply_options.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "vmm-agent/duration.h"

namespace vpatch::rollout {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::size_t kLongestFunction = 256;
constexpr std::size_t kMostValues = 64;

struct DurationOption {
  std::string_view name;
  milliseconds least, most;
  bool spends;  ///< an apply may take so much longer
};
constexpr std::array kDurations = {
    DurationOption{"timeout", 0ms, 24h, true},      DurationOption{"grace", 0ms, 24h, true},
    DurationOption{"signal-after", 0ms, 1h, false}, DurationOption{"switch-after", 0ms, 1h, false},
    DurationOption{"max-pause", 1ms, 1s, false},    DurationOption{"when-clear", 0ms, 24h, true},
    DurationOption{"settle", 0ms, 1h, true}};
constexpr std::array kFlags = {std::string_view("allow-stacking"),
                               std::string_view("allow-downgrade"),
                               std::string_view("require-signed")};

/// "--timeout=90s" as "timeout" and "90s".
std::pair<std::string_view, std::string_view> taken_apart(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  const auto sign = word.find('=');
  return sign == std::string_view::npos ? std::pair(word, std::string_view())
                                        : std::pair(word.substr(0, sign), word.substr(sign + 1));
}

/// FUNCTION or MODULE:FUNCTION.
std::string read_function(YamlReader& reader, const YAML::Node& node) {
  auto name = reader.text(node, kLongestFunction);
  const bool fits = std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '$' || c == ':';
  });
  if (!fits) {
    reader.refuse(node, name + " must be the name of a function, or MODULE:FUNCTION");
  }
  return name;
}

class ApplyOptionsReader {
 public:
  explicit ApplyOptionsReader(YamlReader& reader) : reader_(&reader) {}

  std::vector<std::string> read(const YAML::Node& node) {
    std::vector<YamlReader::Key> keys;
    keys.reserve(kDurations.size() + kFlags.size() + 3);
    for (const DurationOption& option : kDurations) {
      keys.push_back({option.name, [this, option](const YAML::Node& value) {
                        const auto time = reader_->duration(value, option.least, option.most);
                        add(option.name, format_duration(time));
                      }});
    }
    for (const std::string_view flag : kFlags) {
      keys.push_back({flag, [this, flag](const YAML::Node& value) {
                        if (reader_->boolean(value)) words_.push_back(fmt::format("--{}", flag));
                      }});
    }
    keys.push_back({"on-stall", [this](const YAML::Node& value) {
                      add("on-stall", reader_->choice<std::string_view>(
                                          value, {{"revert", "revert"}, {"wait", "wait"}}));
                    }});
    keys.push_back({"assist", [this](const YAML::Node& value) {
                      add("assist",
                          reader_->choice<std::string_view>(
                              value, {{"off", "off"}, {"kick", "kick"}, {"full", "full"}}));
                    }});
    keys.push_back({"quiesce", [this](const YAML::Node& value) { read_functions(value); }});
    reader_->map(node, keys);
    return std::move(words_);
  }

 private:
  void add(std::string_view name, std::string_view value) {
    words_.push_back(fmt::format("--{}={}", name, value));
  }

  void read_functions(const YAML::Node& node) {
    std::vector<std::string> names;
    reader_->list(node, kMostValues,
                  [&](const YAML::Node& one) { names.push_back(read_function(*reader_, one)); });
    add("quiesce", fmt::format("{}", fmt::join(names, ",")));
  }

  YamlReader* reader_;
  std::vector<std::string> words_;
};

/// Values that follow each other as one list.
void write_list(YAML::Emitter& out, const std::vector<std::string_view>& values) {
  out << YAML::Flow << YAML::BeginSeq;
  for (const std::string_view value : values) {
    out << YAML::DoubleQuoted << std::string(value);
  }
  out << YAML::EndSeq;
}

std::vector<std::string_view> split(std::string_view names) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= names.size(); begin += parts.back().size() + 1) {
    parts.push_back(names.substr(begin, names.find(',', begin) - begin));
  }
  return parts;
}

}  // namespace

std::vector<std::string> read_apply_options(YamlReader& reader, const YAML::Node& node) {
  return ApplyOptionsReader(reader).read(node);
}

milliseconds time_asked_for(const std::vector<std::string>& words) {
  milliseconds sum{0};
  for (const std::string& word : words) {
    const auto [name, value] = taken_apart(word);
    const auto option = std::ranges::find(kDurations, name, &DurationOption::name);
    if (option != kDurations.end() && option->spends) {
      sum += parse_duration(value, option->least, option->most).value_or(0ms);
    }
  }
  return sum;
}

void write_apply_options(YAML::Emitter& out, const std::vector<std::string>& words) {
  out << YAML::BeginMap;
  for (const std::string& word : words) {
    const auto [name, value] = taken_apart(word);
    out << YAML::Key << std::string(name) << YAML::Value;
    if (name == "quiesce") {
      write_list(out, split(value));
    } else if (std::ranges::find(kFlags, name) != kFlags.end()) {
      out << true;
    } else {
      out << YAML::DoubleQuoted << std::string(value);
    }
  }
  out << YAML::EndMap;
}

}  // namespace vpatch::rollout
