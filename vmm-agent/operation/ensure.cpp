// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/ensure.h"

#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/settle.h"

namespace vpatch {

EnsureDecision decide_ensure(const EnsureFacts& facts) {
  if (facts.in_force) {
    return {EnsureAction::nothing, fmt::format("{} is in force", facts.patch)};
  }
  if (facts.guest_release != facts.patch_release) {
    return {
        EnsureAction::other_kernel,
        fmt::format("the guest now runs {}; {} was built for {}", facts.guest_release, facts.patch,
                    facts.patch_release),
        fmt::format("Apply a livepatch for this kernel with --persist; `vpatch revert {}` takes "
                    "the registration back.",
                    facts.patch)};
  }
  if (facts.last && facts.last->in_force && facts.last->boot_id == facts.boot_id &&
      !facts.boot_id.empty() && !facts.retry_failed) {
    return {EnsureAction::taken_out,
            fmt::format("{} has been taken out of force since the guest booted; that is left so",
                        facts.patch),
            fmt::format("It comes back with the next boot; now: `vpatch apply --persist`. `vpatch "
                        "revert {}` ends its registration.",
                        facts.patch)};
  }
  if (!facts.last || facts.retry_failed || facts.last->end == LastLoad::End::well) {
    return {EnsureAction::apply};
  }
  const LastLoad& last = *facts.last;
  if (last.end == LastLoad::End::unknown && last.boot_id == facts.boot_id) {
    return {EnsureAction::apply};  // the guest at least has survived it
  }
  return {EnsureAction::hold_back,
          last.end == LastLoad::End::trouble
              ? fmt::format("{} is held back: its last load ({}) ended so: {}", facts.patch,
                            last.at, last.text)
              : fmt::format("{} is held back: the guest has rebooted since its last load ({}), of "
                            "which no end is recorded",
                            facts.patch, last.at),
          "Find out why (`vpatch log`, `vpatch history`); --retry-failed applies it nevertheless."};
}

Result<EnsureDecision> plan_ensure(Context& context, const LivepatchFile& file,
                                   const std::optional<LastLoad>& last, bool retry_failed) {
  const auto state = context.guest.observe(context.interruptible());
  if (!state) {
    return std::unexpected(Error(state.error()).in_context(context.domain));
  }
  const GuestPatch* const patch = state->find_patch(file.name);
  bool in_force = patch != nullptr && patch->phase() == PatchPhase::patched;
  if (in_force) {
    const auto build_id = context.guest.module_build_id(file.name, context.interruptible());
    if (!build_id) {
      return std::unexpected(Error(build_id.error()).in_context(context.domain));
    }
    in_force = *build_id == file.build_id;
  }
  return decide_ensure({.patch = file.name,
                        .patch_release = file.release,
                        .guest_release = state->release,
                        .boot_id = state->boot_id,
                        .in_force = in_force,
                        .last = last,
                        .retry_failed = retry_failed});
}

Report report_of(const EnsureDecision& decision, const std::string& domain,
                 const std::string& patch) {
  Report report;
  report.patch = patch;
  const bool fine =
      decision.action == EnsureAction::nothing || decision.action == EnsureAction::taken_out;
  report.conclude(fine ? Outcome::done : Outcome::refused,
                  fmt::format("{}: {}", domain, decision.text), decision.hint);
  if (!fine) {
    report.findings.push_back(
        {.severity = Severity::error,
         .id = decision.action == EnsureAction::other_kernel ? "kernel-changed" : "held-back",
         .text = decision.text,
         .hint = decision.hint});
  }
  return report;
}

Report ensure(Context& context, const LivepatchFile& file, const std::optional<LastLoad>& last,
              const EnsureOptions& options) {
  const auto decision = plan_ensure(context, file, last, options.retry_failed);
  if (!decision) {
    Report report;
    report.patch = file.name;
    report.conclude(decision.error().outcome, decision.error().what, decision.error().hint);
    return report;
  }
  if (decision->action != EnsureAction::apply) {
    return report_of(*decision, context.domain, file.name);
  }
  ApplyOptions how = options.apply;
  how.must_record = true;
  return apply_and_watch(context, file, how, options.settle);
}

}  // namespace vpatch
