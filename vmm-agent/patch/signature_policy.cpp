// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/signature_policy.h"

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "vmm-agent/patch/file_reader.h"
#include "vmm-agent/patch/modinfo.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxPolicy = std::size_t{64} << 10;

/// Throws what yaml-cpp throws, and std::runtime_error.
SignaturePolicy parse(const std::string& text, const std::filesystem::path& folder) {
  SignaturePolicy policy;
  const YAML::Node root = YAML::Load(text);
  if (root.IsNull()) return policy;
  if (!root.IsMap()) throw std::runtime_error("it is not a list of rules");
  for (const auto& rule : root) {
    const auto name = rule.first.as<std::string>();
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

Result<SignaturePolicy> read_signature_policy(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& why) {
    return std::unexpected(Error{Outcome::refused, fmt::format("policy {}: {}", path.string(), why),
                                 "It may have require_signed: true or false, and certificates: a "
                                 "list of files and folders.",
                                 "bad-policy"});
  };
  const auto bytes = read_regular_file(path, kMaxPolicy);
  if (!bytes) return refuse(bytes.error().what);
  try {
    return parse({reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path.parent_path());
  } catch (const std::exception& error) {
    return refuse(displayable(error.what()));
  }
}

Result<SignaturePolicy> find_signature_policy(const std::filesystem::path& path) {
  if (!path.empty()) return read_signature_policy(path);
  std::error_code failure;
  const auto kind = std::filesystem::status(kPolicyFile, failure).type();
  if (kind == std::filesystem::file_type::not_found) return SignaturePolicy{};
  return read_signature_policy(kPolicyFile);
}

}  // namespace vpatch
