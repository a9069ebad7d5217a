// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/operation/preflight_checks.h"

namespace vpatch {
namespace {

constexpr const char* kBuildAgain = "Correct the livepatch's source and build it again.";

void check_signature(const PreflightOptions& options, Findings& findings) {
  if (!options.require_signed && !options.signature) {
    return;
  }
  const SignatureCheck check = options.signature.value_or(SignatureCheck{});
  if (check.state == SignatureState::good) {
    findings.push_back({Severity::note, std::string(finding_id(check.state)),
                        fmt::format("signed by {}", check.signer)});
    return;
  }
  const bool nothing_wrong =
      check.state == SignatureState::missing || check.state == SignatureState::unchecked;
  if (nothing_wrong && !options.require_signed) {
    return;
  }
  findings.push_back({options.require_signed ? Severity::error : Severity::warning,
                      std::string(finding_id(check.state)), check.detail,
                      "Take the file from where it was signed, or sign it with a key whose "
                      "certificate is given (--cert, or the policy file)."});
}

void check_duplicates(const PatchContents& contents, Findings& findings) {
  std::set<std::string_view> objects;
  for (const PatchedObject& object : contents.objects) {
    if (!objects.insert(object.name).second) {
      findings.push_back({Severity::error, "duplicate-object",
                          fmt::format("the object {} is listed twice", object.name), kBuildAgain});
    }
    // The kernel takes position 0 for 1.
    std::set<std::pair<std::string_view, std::uint64_t>> functions;
    for (const PatchedFunction& function : object.functions) {
      if (!functions.emplace(function.name, std::max<std::uint64_t>(function.position, 1)).second) {
        findings.push_back(
            {Severity::error, "duplicate-function",
             fmt::format("the function {}:{} is listed twice", object.name, function.name),
             kBuildAgain});
      }
    }
  }
  std::set<std::uint64_t> states;
  for (const PatchState& state : contents.states) {
    if (!states.insert(state.id).second) {
      findings.push_back({Severity::error, "duplicate-state",
                          fmt::format("the state {} is listed twice", state.id), kBuildAgain,
                          "R14"});
    }
  }
}

void note_callbacks(const PatchContents& contents, Findings& findings) {
  std::vector<std::string> objects;
  for (const PatchedObject& object : contents.objects) {
    if (const std::string names = callback_names(object.callbacks); !names.empty()) {
      objects.push_back(fmt::format("{} ({})", object.name, names));
    }
  }
  if (!objects.empty()) {
    findings.push_back({Severity::note, "callbacks",
                        fmt::format("it has callbacks for {}", fmt::join(objects, ", ")), "",
                        "R5"});
  }
}

}  // namespace

void check_file(const LivepatchFile& file, const PreflightOptions& options, Findings& findings) {
  check_signature(options, findings);
  if (!file.contents) {
    findings.push_back({Severity::warning, "contents-unknown",
                        fmt::format("what the patch changes is unknown: {}", file.contents_unknown),
                        "Conflicts with other patches cannot be predicted."});
    return;
  }
  check_duplicates(*file.contents, findings);
  note_callbacks(*file.contents, findings);
}

}  // namespace vpatch
