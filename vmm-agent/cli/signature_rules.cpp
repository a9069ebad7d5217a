// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/cli/signature_rules.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "vmm-agent/patch/signature_check.h"
#include "vmm-agent/patch/signature_policy.h"

namespace vpatch {

Result<void> judge_signature(const LivepatchFile& file, const SignatureOptions& asked,
                             PreflightOptions& rules) {
  auto policy = find_signature_policy(asked.policy);
  if (!policy) {
    return std::unexpected(std::move(policy.error()));
  }
  rules.require_signed = policy->require_signed || asked.required;
  std::ranges::copy(asked.certificates, std::back_inserter(policy->certificates));
  Certificates trusted;
  for (const std::filesystem::path& path : policy->certificates) {
    if (auto added = trusted.add(path); !added) {
      return added;
    }
  }
  rules.signature = check_signature(file.bytes, trusted);
  return {};
}

}  // namespace vpatch
