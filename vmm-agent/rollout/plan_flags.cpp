// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/plan_flags.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "vmm-agent/rollout/yaml_reader.h"

namespace vpatch::rollout {
namespace {

namespace fs = std::filesystem;

std::unexpected<Error> wrong(std::string_view flag, std::string_view value, std::string_view why) {
  return fail(Outcome::usage, fmt::format("{} {}: {}", flag, value, why));
}

Result<std::pair<std::string, std::string>> split(std::string_view flag, const std::string& text,
                                                  std::string_view form) {
  const auto sign = text.find('=');
  if (sign == 0 || sign == std::string::npos || sign + 1 == text.size()) {
    return wrong(flag, text, fmt::format("it is written as {}", form));
  }
  return std::pair(text.substr(0, sign), text.substr(sign + 1));
}

/// Sets what a path of keys such as "limits.budget" leads to. yaml-cpp's nodes are references.
Result<void> set(YAML::Node root, const std::string& setting) {
  const auto parts = split("--set", setting, "KEY=VALUE, such as limits.budget=5%");
  if (!parts) {
    return std::unexpected(parts.error());
  }
  const auto& [path, value] = *parts;
  const auto dot = path.find('.');
  const std::string key = path.substr(0, dot);
  if (key.empty() || (dot != std::string::npos &&
                      (dot + 1 == path.size() || path.find('.', dot + 1) != std::string::npos))) {
    return wrong("--set", setting, "KEY is a key of the plan, or two with a dot between");
  }
  YamlReader reader;
  const YAML::Node read = reader.document(value);
  if (const auto& error = reader.error()) {
    return wrong("--set", setting, error->what);
  }
  if (dot == std::string::npos) {
    root[key] = read;
  } else {
    YAML::Node map = root[key];
    map[path.substr(dot + 1)] = read;
  }
  return {};
}

void set_list(YAML::Node map, const char* key, const std::vector<std::string>& values) {
  if (!values.empty()) {
    map[key] = values;
  }
}

Result<void> set_files(YAML::Node root, const std::vector<std::string>& files,
                       const fs::path& here) {
  YAML::Node list;
  for (const std::string& text : files) {
    const auto parts = split("--file", text, "KERNEL=FILE");
    if (!parts) {
      return std::unexpected(parts.error());
    }
    YAML::Node entry;
    entry["kernel"] = parts->first;
    entry["file"] = (here / parts->second).lexically_normal().string();
    list.push_back(entry);
  }
  if (!files.empty()) {
    root["files"] = list;
  }
  return {};
}

YAML::Node waves_of(const std::vector<std::string>& waves) {
  YAML::Node list;
  for (const std::string& text : waves) {
    const auto comma = text.find(',');
    YAML::Node entry;
    entry["amount"] = text.substr(0, comma);
    if (comma != std::string::npos) {
      entry["soak"] = text.substr(comma + 1);
    }
    list.push_back(entry);
  }
  return list;
}

Result<void> overlay(YAML::Node root, const PlanFlags& flags, const fs::path& here) {
  if (!flags.name.empty()) {
    root["name"] = flags.name;
  }
  if (auto done = set_files(root, flags.files, here); !done) {
    return done;
  }
  set_list(root, "connections", flags.connections);
  if (!flags.names.empty() || !flags.groups.empty() || !flags.except.empty()) {
    YAML::Node domains = root["domains"];
    set_list(domains, "names", flags.names);
    set_list(domains, "groups", flags.groups);
    set_list(domains, "except", flags.except);
  }
  if (!flags.canary.empty()) {
    YAML::Node canary;
    canary["amount"] = flags.canary;
    if (root["canary"].IsMap() && root["canary"]["soak"].IsDefined()) {
      canary["soak"] = root["canary"]["soak"];
    }
    root["canary"] = canary;
  }
  if (!flags.waves.empty()) {
    root["waves"] = waves_of(flags.waves);
  }
  if (!flags.on_failure.empty()) {
    root["on_failure"] = flags.on_failure;
  }
  for (const std::string& setting : flags.settings) {
    if (auto done = set(root, setting); !done) {
      return done;
    }
  }
  return {};
}

/// The paths of the plan's files, once they mean the same from everywhere.
void make_absolute(YAML::Node root, const fs::path& folder) {
  if (!root["files"].IsSequence()) {
    return;  // what it is then, parse_plan() says
  }
  for (YAML::Node entry : root["files"]) {
    if (entry.IsMap() && entry["file"].IsScalar()) {
      entry["file"] = (folder / entry["file"].Scalar()).lexically_normal().string();
    }
  }
}

}  // namespace

bool PlanFlags::empty() const {
  return name.empty() && files.empty() && connections.empty() && names.empty() && groups.empty() &&
         except.empty() && canary.empty() && waves.empty() && on_failure.empty() &&
         settings.empty();
}

Result<Plan> parse_plan(std::string_view yaml, const fs::path& folder, const PlanFlags& flags,
                        const fs::path& here) {
  if (flags.empty()) {
    return parse_plan(yaml, folder);
  }
  YAML::Node root(YAML::NodeType::Map);
  if (!yaml.empty()) {
    // Errors are to name the lines of the file as it is. What only a flag makes whole (a name, say)
    // is no error of it, and is found below.
    if (yaml.size() > kLongestPlan) {
      return parse_plan(yaml, folder);
    }
    YamlReader reader;
    try {
      root = reader.document(std::string(yaml));
    } catch (const YAML::Exception&) {
      return parse_plan(yaml, folder);
    }
    if (reader.error() || !root.IsMap()) {
      return parse_plan(yaml, folder);
    }
  }
  try {
    make_absolute(root, folder);
    if (auto done = overlay(root, flags, here); !done) {
      return std::unexpected(std::move(done.error()));
    }
    return parse_plan(YAML::Dump(root), folder);
  } catch (const YAML::Exception& error) {
    return fail(Outcome::usage, fmt::format("flags of the plan: {}", error.msg));
  }
}

}  // namespace vpatch::rollout
