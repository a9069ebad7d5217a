// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/preflight.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/preflight_checks.h"

namespace vpatch {
namespace {

Finding error(std::string id, std::string text, std::string hint, std::string row = {}) {
  return {Severity::error, std::move(id), std::move(text), std::move(hint), std::move(row)};
}

/// A guest or a file may give rise to any number of findings of one kind: the first are enough.
void shorten(Findings& findings) {
  constexpr std::size_t kOfAKind = 64;
  std::map<std::pair<std::string, Severity>, std::size_t> seen;
  std::erase_if(findings, [&seen](const Finding& finding) {
    return ++seen[{finding.id, finding.severity}] > kOfAKind;
  });
  for (const auto& [kind, count] : seen) {
    if (count > kOfAKind) {
      findings.push_back(
          {kind.second, kind.first, fmt::format("... and {} more of this kind", count - kOfAKind)});
    }
  }
}

/// A module of the file's name is in the guest. Is it this very patch, and in force?
ApplyAction judge_same_name(const LivepatchFile& file, const GuestState& guest,
                            const GuestModule& module, const std::string& loaded_build_id,
                            std::vector<Finding>& findings) {
  if (!module.is_livepatch()) {
    findings.push_back(error(
        "name-in-use", fmt::format("a module named {} that is no livepatch is loaded", file.name),
        "Rename the livepatch, or unload that module."));
    return ApplyAction::refuse;
  }
  const GuestPatch* patch = guest.find_patch(file.name);
  const bool in_force = patch != nullptr && (patch->enabled || patch->transition);
  if (!in_force) {
    return ApplyAction::replace_stale;
  }
  if (file.build_id.empty() || file.build_id != loaded_build_id) {
    findings.push_back(error(
        "same-name-other-build",
        fmt::format("another build of {} is {} in the guest", file.name, to_string(patch->phase())),
        fmt::format(
            "Revert it first (vpatch revert ... {}), or give the new livepatch a name of its own.",
            file.name)));
    return ApplyAction::refuse;
  }
  if (patch->phase() == PatchPhase::unpatching) {
    return ApplyAction::refuse;  // reported as busy
  }
  return patch->transition ? ApplyAction::join : ApplyAction::none;
}

}  // namespace

std::string_view to_string(ApplyAction action) {
  switch (action) {
    case ApplyAction::load:
      return "load";
    case ApplyAction::replace_stale:
      return "unload the stale module, then load";
    case ApplyAction::join:
      return "watch the running transition";
    case ApplyAction::none:
      return "none, already in force";
    case ApplyAction::refuse:
      break;
  }
  return "refuse";
}

ApplyPlan plan_apply(const LivepatchFile& file, const GuestState& guest, const GuestFacts& facts,
                     const std::string& loaded_build_id, const PreflightOptions& options) {
  ApplyPlan plan{.action = ApplyAction::load, .findings = {}, .replaces = {}};
  if (file.release != guest.release) {
    plan.findings.push_back(error("kernel-release",
                                  fmt::format("the livepatch is for kernel {}, the guest runs {}",
                                              file.release, guest.release),
                                  fmt::format("Build the livepatch for {}.", guest.release)));
  }
  if (!guest.has_livepatch) {
    plan.findings.push_back(error("no-livepatch-support",
                                  "the guest's kernel has no /sys/kernel/livepatch",
                                  "It needs a kernel built with CONFIG_LIVEPATCH=y."));
  }
  if (const GuestModule* module = guest.find_module(file.name); module != nullptr) {
    plan.action = judge_same_name(file, guest, *module, loaded_build_id, plan.findings);
  }
  if (const GuestPatch* busy = guest.in_transition();
      busy != nullptr && plan.action != ApplyAction::join) {
    plan.findings.push_back(
        error("busy-transition",
              fmt::format("the guest is {} {}; the kernel runs one transition at a time",
                          to_string(busy->phase()), busy->name),
              "Wait until it has ended; `vpatch status` shows it.", "R9"));
  }
  check_file(file, options, plan.findings);
  if (plan.action != ApplyAction::join && plan.action != ApplyAction::none) {
    check_conflicts(file, guest, options, plan.findings);
    check_patches_in_force(file, guest, facts, options, plan.findings);
    check_functions(file, guest, facts, plan.findings);
    if (file.contents && file.contents->replace == true) {
      for (const GuestPatch& patch : guest.patches) {
        if (patch.name != file.name) {
          plan.replaces.push_back(patch.name);
        }
      }
    }
  }
  if (std::ranges::find(plan.findings, Severity::error, &Finding::severity) !=
      plan.findings.end()) {
    plan.action = ApplyAction::refuse;
  }
  shorten(plan.findings);
  return plan;
}

}  // namespace vpatch
