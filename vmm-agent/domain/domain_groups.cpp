// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain_groups.h"

#include <algorithm>
#include <exception>
#include <sstream>

#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <fmt/format.h>

namespace vpatch {
namespace {

namespace tree = boost::property_tree;

constexpr std::size_t kMaxXml = 65'536;

/// Without the prefix of its namespace.
std::string_view local_name(std::string_view name) {
  return name.substr(name.find(':') + 1);
}

}  // namespace

bool is_group_name(std::string_view name) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= kMaxGroupName && letter_or_digit(name.front()) &&
         std::ranges::all_of(
             name, [&](char c) { return letter_or_digit(c) || c == '.' || c == '-' || c == '_'; });
}

Result<std::vector<std::string>> groups_of(std::string_view xml) try {
  std::vector<std::string> groups;
  if (xml.empty()) {
    return groups;
  }
  if (xml.size() > kMaxXml) {
    return fail(Outcome::refused, "vpatch's metadata of the domain is too long");
  }
  std::istringstream text{std::string(xml)};
  tree::ptree root;
  tree::read_xml(text, root, tree::xml_parser::trim_whitespace);
  for (const auto& [name, element] : root) {
    if (local_name(name) != "groups") {
      continue;
    }
    for (const auto& [child, value] : element) {
      if (local_name(child) == "group" && groups.size() < kMaxGroups && !value.data().empty()) {
        groups.push_back(value.data());
      }
    }
  }
  return groups;
} catch (const std::exception&) {
  return fail(Outcome::refused, "vpatch's metadata of the domain is no XML");
}

std::string metadata_of(const std::vector<std::string>& groups) {
  std::string xml = "<groups>";
  for (const std::string& group : groups) {
    xml += fmt::format("<group>{}</group>", tree::xml_parser::encode_char_entities(group));
  }
  return xml + "</groups>";
}

Result<std::vector<std::string>> changed(const std::vector<std::string>& groups,
                                         const GroupChange& change) {
  std::vector<std::string> result;
  const auto take = [&result](const std::string& group) {
    if (std::ranges::find(result, group) == result.end()) {
      result.push_back(group);
    }
  };
  for (const std::string& group : groups) {
    if (!change.replace && std::ranges::find(change.remove, group) == change.remove.end()) {
      take(group);
    }
  }
  std::ranges::for_each(change.add, take);
  if (result.size() > kMaxGroups) {
    return fail(
        Outcome::refused,
        fmt::format("these are {} groups; a domain is in at most {}", result.size(), kMaxGroups),
        "Leave some: vpatch group --remove NAME...");
  }
  return result;
}

}  // namespace vpatch
