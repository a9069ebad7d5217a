// SPDX-License-Identifier: Apache-2.0
// The host's rule for signatures: a small YAML file.
//
//   require_signed: true
//   certificates: [/etc/vpatch/keys, release.pem]
#pragma once

#include <filesystem>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

inline constexpr const char* kPolicyFile = "/etc/vpatch/policy.yaml";

struct SignaturePolicy {
  bool require_signed = false;
  /// Files and folders; those of the file's own folder may be named without it.
  std::vector<std::filesystem::path> certificates;
};

/// Errors: Outcome::refused, id "bad-policy", when the file cannot be read, may be written by
/// others than its owner, is no YAML, or says what is not known or says it twice: a rule that is
/// misspelt is not passed over.
Result<SignaturePolicy> read_signature_policy(const std::filesystem::path& path);

/// That of `path`; or when it is empty that of `standard`, which need not exist.
Result<SignaturePolicy> find_signature_policy(const std::filesystem::path& path,
                                              const std::filesystem::path& standard = kPolicyFile);

}  // namespace vpatch
