// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/signature_policy.h"

#include <cstddef>
#include <exception>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "vmm-agent/patch/file_reader.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/yaml_fault.h"

namespace vpatch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxPolicy = std::size_t{64} << 10;

/// Throws what yaml-cpp throws, and std::runtime_error.
SignaturePolicy parse(const std::string& text, const fs::path& folder) {
  SignaturePolicy policy;
  if (const auto fault = yaml_fault(text)) throw std::runtime_error(fault->what);
  const YAML::Node root = YAML::Load(text);
  if (root.IsNull()) return policy;
  if (!root.IsMap()) throw std::runtime_error("it is not a list of rules");
  std::set<std::string> seen;
  for (const auto& rule : root) {
    const auto name = rule.first.as<std::string>();
    if (!seen.insert(name).second) {
      throw std::runtime_error("the rule " + displayable(name) + " is there twice");
    }
    if (name == "require_signed") {
      policy.require_signed = rule.second.as<bool>();
    } else if (name == "certificates") {
      for (const auto& path : rule.second.as<std::vector<std::string>>()) {
        policy.certificates.push_back(folder / path);
      }
    } else {
      throw std::runtime_error("unknown rule " + displayable(name));
    }
  }
  return policy;
}

}  // namespace

Result<SignaturePolicy> read_signature_policy(const fs::path& path) {
  const auto refuse = [&](const std::string& why) {
    return std::unexpected(Error{Outcome::refused, fmt::format("policy {}: {}", path.string(), why),
                                 "It may have require_signed: true or false, and certificates: a "
                                 "list of files and folders.",
                                 "bad-policy"});
  };
  const auto bytes = read_regular_file(path, kMaxPolicy);
  if (!bytes) return refuse(bytes.error().what);
  std::error_code failure;
  const auto rights = fs::status(path, failure).permissions();
  if (failure) return refuse(failure.message());
  if ((rights & (fs::perms::group_write | fs::perms::others_write)) != fs::perms::none) {
    return refuse("others than its owner may write it");
  }
  try {
    return parse({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path.parent_path());
  } catch (const std::exception& error) {
    return refuse(displayable(error.what()));
  }
}

Result<SignaturePolicy> find_signature_policy(const fs::path& path, const fs::path& standard) {
  if (!path.empty()) return read_signature_policy(path);
  std::error_code failure;
  // A link that leads nowhere is there.
  const auto kind = fs::symlink_status(standard, failure).type();
  if (kind == fs::file_type::not_found) return SignaturePolicy{};
  return read_signature_policy(standard);
}

}  // namespace vpatch
