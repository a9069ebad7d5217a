// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "vmm-agent/operation/module_version.h"
#include "vmm-agent/operation/preflight_checks.h"

namespace vpatch {
namespace {

bool any(const PatchCallbacks& callbacks) {
  return callbacks != PatchCallbacks{};
}

PatchCallbacks all_callbacks(const PatchContents& contents) {
  PatchCallbacks all;
  for (const PatchedObject& object : contents.objects) {
    all.pre_patch |= object.callbacks.pre_patch;
    all.post_patch |= object.callbacks.post_patch;
    all.pre_unpatch |= object.callbacks.pre_unpatch;
    all.post_unpatch |= object.callbacks.post_unpatch;
  }
  return all;
}

/// By the kernel's rule (klp_is_patch_compatible()): no patch may know an older version of a state
/// that is in force, and a cumulative one must know them all.
struct StateCheck {
  bool refused = false;
  bool older = false;  ///< a state of the file is older than that in force
};

StateCheck check_states(const PatchContents& contents, const PatchFacts& in_force,
                        Findings& findings) {
  StateCheck result;
  for (const PatchState& state : in_force.states) {
    const auto own = std::ranges::find(contents.states, state.id, &PatchState::id);
    if (own == contents.states.end()) {
      if (contents.replace == false) {
        continue;
      }
      const bool certain = contents.replace.has_value();
      result.refused |= certain;
      findings.push_back(
          {certain ? Severity::error : Severity::warning, "state-missing",
           fmt::format("{} has changed the state {}, which this patch does not know{}",
                       in_force.name, state.id,
                       certain ? "" : "; the kernel refuses it if it is cumulative"),
           fmt::format("Use a livepatch that carries the state {}, or revert {} first.", state.id,
                       in_force.name),
           "R14"});
    } else if (own->version < state.version) {
      result.refused = true;
      result.older = true;
      findings.push_back(
          {Severity::error, "state-older",
           fmt::format("{} has the state {} in version {}, this patch only knows version {}",
                       in_force.name, state.id, state.version, own->version),
           fmt::format("Use a livepatch that knows version {} of it, or revert {} first.",
                       state.version, in_force.name),
           "R14"});
    }
  }
  return result;
}

/// Both are cumulative, and this one is the older: allowed, unless something that runs at the
/// change of patches was not made for this way round.
void check_downgrade(const LivepatchFile& file, const PatchFacts& in_force,
                     const StateCheck& states, const PreflightOptions& options,
                     Findings& findings) {
  const bool known = !file.version.empty() && !in_force.version.empty();
  if (!known && !states.older) {
    findings.push_back(
        {Severity::warning, "downgrade-unknown",
         fmt::format("whether this is older than {} is unknown: {} has no MODULE_VERSION",
                     in_force.name, file.version.empty() ? file.name : in_force.name),
         "", "R4"});
    return;
  }
  if (!states.older && compare_versions(file.version, in_force.version) >= 0) {
    return;
  }
  const PatchContents& contents = *file.contents;
  const bool callbacks = any(in_force.callbacks) || any(all_callbacks(contents));
  const bool with_states = !in_force.states.empty() || !contents.states.empty();
  Finding finding{Severity::note, "downgrade",
                  fmt::format("a downgrade: version {} takes the place of {} in version {}",
                              file.version.empty() ? "?" : file.version, in_force.name,
                              in_force.version.empty() ? "?" : in_force.version),
                  "", "R4"};
  if ((callbacks || with_states) && !states.refused) {
    finding.text +=
        fmt::format("; its {} may not have been made for that", callbacks ? "callbacks" : "states");
    finding.severity = options.allow_downgrade ? Severity::warning : Severity::error;
    finding.hint = "Revert the newer patch first, or insist with --allow-downgrade.";
    finding.overridden_by = kAllowDowngrade;
  }
  findings.push_back(std::move(finding));
}

void note_lost_callbacks(const PatchFacts& in_force, Findings& findings) {
  PatchCallbacks lost = in_force.callbacks;
  lost.pre_patch = lost.post_patch = false;
  if (any(lost)) {
    findings.push_back({Severity::note, "callbacks-not-run",
                        fmt::format("on a replace only the new patch's callbacks run: those of {} "
                                    "({}) do not",
                                    in_force.name, callback_names(lost)),
                        "", "R5"});
  }
}

void check_forced(const GuestState& guest, const GuestFacts& facts, Findings& findings) {
  constexpr const char* kReboot = "Plan a reboot of the guest.";
  if (facts.patches) {
    for (const PatchFacts& patch : *facts.patches) {
      if (patch.forced) {
        findings.push_back({Severity::warning, "forced-patch",
                            fmt::format("a transition was forced while {} was in force: tasks may "
                                        "still run what it changed",
                                        patch.name),
                            kReboot, "R10"});
      }
    }
  }
  for (const GuestModule& module : guest.modules) {
    if (module.is_livepatch() && module.references > 0 &&
        guest.find_patch(module.name) == nullptr) {
      findings.push_back(
          {Severity::warning, "livepatch-module-held",
           fmt::format("the livepatch module {} is out of force but in use: it is just leaving, or "
                       "its transition was forced",
                       module.name),
           "If it stays so, plan a reboot of the guest.", "R10"});
    }
  }
}

}  // namespace

void check_patches_in_force(const LivepatchFile& file, const GuestState& guest,
                            const GuestFacts& facts, const PreflightOptions& options,
                            Findings& findings) {
  check_forced(guest, facts, findings);
  if (!file.contents || !facts.patches) {
    return;
  }
  for (const PatchFacts& in_force : *facts.patches) {
    if (in_force.name == file.name) {
      continue;
    }
    const StateCheck states = check_states(*file.contents, in_force, findings);
    if (file.contents->replace == true && in_force.replace) {
      check_downgrade(file, in_force, states, options, findings);
    }
    if (file.contents->replace == true) {
      note_lost_callbacks(in_force, findings);
    }
  }
}

}  // namespace vpatch
