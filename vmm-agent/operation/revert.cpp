// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/revert.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/clean_up.h"
#include "vmm-agent/operation/log_trouble.h"
#include "vmm-agent/operation/patience.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRestoreLimit{60'000};

/// One revert. Each step returns false once the report is concluded.
class Revert {
 public:
  Revert(Context& context, const RevertOptions& options) : context_(context), options_(options) {}

  Report run() {
    const auto start = context_.clock.now();
    if (choose() && unpatch()) {
      finish();
    }
    report_.elapsed = std::chrono::duration_cast<milliseconds>(context_.clock.now() - start);
    return std::move(report_);
  }

 private:
  /// The change itself, with the assistance at work from before it begins until it is over.
  bool unpatch() {
    begin_assistance(context_, report_.patch);
    const bool unpatched = not_interrupted() && disable() && transition();
    end_assistance(context_, report_);
    return unpatched;
  }

  bool conclude(Outcome outcome, std::string text, std::string hint = {}) {
    report_.conclude(outcome, fmt::format("{}: {}", context_.domain, text), std::move(hint));
    return false;
  }
  bool conclude(const Error& error) { return conclude(error.outcome, error.what, error.hint); }
  bool conclude_in_doubt(const Error& why, std::string_view text, std::string hint) {
    report_.conclude_in_doubt(why, fmt::format("{}: {}", context_.domain, text), std::move(hint));
    return false;
  }
  bool interrupted() const { return context_.stop.stop_requested(); }
  bool not_interrupted() {
    return !interrupted() || conclude(Outcome::refused, "interrupted before the guest was touched");
  }

  bool choose() {
    context_.reporter.progress("reading the guest");
    auto state = context_.guest.observe(context_.interruptible());
    if (!state) {
      return interrupted() ? conclude(Outcome::refused, "interrupted before the guest was touched")
                           : conclude(state.error());
    }
    before_ = *std::move(state);
    report_.boot_id = before_.boot_id;
    report_.patch = options_.patch;
    if (report_.patch.empty()) {
      if (before_.patches.empty()) {
        return conclude(Outcome::done, "no livepatch is loaded; nothing to revert");
      }
      if (before_.patches.size() > 1) {
        std::string names;
        for (const GuestPatch& patch : before_.patches) {
          names += " " + patch.name;
        }
        return conclude(Outcome::refused, fmt::format("several livepatches are loaded:{}", names),
                        "Name the one to revert.");
      }
      report_.patch = before_.patches.front().name;
    }
    const GuestModule* module = before_.find_module(report_.patch);
    if (module != nullptr && !module->is_livepatch()) {
      return conclude(Outcome::refused, fmt::format("{} is no livepatch", report_.patch),
                      "`vpatch status` lists the livepatches.");
    }
    if (module == nullptr && before_.find_patch(report_.patch) == nullptr) {
      return conclude(Outcome::done,
                      fmt::format("{} is not loaded; nothing to revert", report_.patch));
    }
    const GuestPatch* busy = before_.in_transition();
    if (busy != nullptr && busy->name != report_.patch) {
      return conclude(Outcome::refused,
                      fmt::format("the guest is {} {}; the kernel runs one transition at a time",
                                  to_string(busy->phase()), busy->name),
                      "Wait until it has ended; `vpatch status` shows it.");
    }
    return look_before();
  }

  /// All that a later look is held against.
  bool look_before() {
    const auto forced = find_forced(context_, before_);
    // Of a module that is out of force any force may have left tasks in it.
    const bool left_over = before_.find_patch(report_.patch) == nullptr;
    const auto this_one = std::ranges::find_if(forced, [&](const ForcedPatch& one) {
      return left_over || one.patch.empty() || one.patch == report_.patch;
    });
    forced_ = this_one == forced.end() ? std::nullopt : std::optional(*this_one);
    if (forced_ && before_.find_patch(report_.patch) == nullptr) {
      keep_module(*forced_);
      return conclude(Outcome::done,
                      fmt::format("{} is out of force already; its module stays", report_.patch));
    }
    if (context_.introspection != nullptr) {
      if (auto mark = context_.introspection->mark(context_.interruptible())) {
        mark_ = *std::move(mark);
      }
    }
    auto mark = context_.guest.log_mark(context_.steady());
    if (!mark && !interrupted()) {
      return conclude(mark.error());  // without it, old trouble in the log would look new
    }
    log_mark_ = mark ? *std::move(mark) : std::string();
    return not_interrupted();
  }

  bool disable() {
    const GuestPatch* patch = before_.find_patch(report_.patch);
    report_.taken_out = true;
    if (patch == nullptr || !patch->enabled) {
      return true;  // a module left loaded, or a transition that runs this way already
    }
    auto tool = set_enabled_patiently(context_, report_.patch, false);
    if (!tool) {
      return conclude_in_doubt(tool.error(), tool.error().what,
                               "See with `vpatch status` how far it came.");
    }
    if (!tool->ok) {
      report_.taken_out = false;
      note_kernel_log();
      return conclude(Outcome::failed_restored, fmt::format("the kernel refused to disable {}: {}",
                                                            report_.patch, tool->message));
    }
    context_.reporter.step(fmt::format("disabled {}", report_.patch));
    return true;
  }

  bool transition() {
    auto end = await_transition(context_, report_.patch, options_.timeout, true);
    if (!end) {
      return conclude_in_doubt(
          end.error(),
          fmt::format("{} is being unpatched, but the end of that was not seen: {}", report_.patch,
                      end.error().what),
          "The kernel finishes the transition by itself; see with `vpatch status`.");
    }
    report_.blockers = end->blockers;
    if (end->how == TransitionEnd::How::ended) {
      if (end->enabled()) {
        report_.taken_out = false;
        return conclude(Outcome::failed_restored,
                        fmt::format("somebody else put {} in force again", report_.patch));
      }
      return true;
    }
    const bool stalled = end->how == TransitionEnd::How::timed_out;
    const std::string who = held_up_by(*end);
    if (end->completing()) {
      return conclude(Outcome::stalled_waiting,
                      fmt::format("no task uses {} any more{}", report_.patch, who),
                      "It can no longer be stopped, and ends by itself; run revert again to unload "
                      "the module.");
    }
    if (stalled && options_.on_stall == OnStall::wait) {
      return conclude(
          Outcome::stalled_waiting,
          fmt::format("unpatching {} did not end in time{}; it is left pending, as asked",
                      report_.patch, who),
          "Watch it with `vpatch status`; run revert again to finish it.");
    }
    if (was_unpatching()) {
      // It was on its way out before this run began: that is what "as before" means.
      return conclude(
          stalled ? Outcome::stalled_waiting : Outcome::refused,
          fmt::format("unpatching {}, which an earlier run began, {}{}; it is left pending",
                      report_.patch, stalled ? "did not end in time" : "goes on; interrupted", who),
          "Watch it with `vpatch status`; run revert again to finish it.");
    }
    return restore(stalled, who);
  }

  bool was_unpatching() const {
    const GuestPatch* patch = before_.find_patch(report_.patch);
    return patch != nullptr && patch->phase() == PatchPhase::unpatching;
  }
  bool was_patching() const {
    const GuestPatch* patch = before_.find_patch(report_.patch);
    return patch != nullptr && patch->phase() == PatchPhase::patching;
  }

  /// Puts the patch in force again: the transition runs the other way.
  bool restore(bool stalled, const std::string& who) {
    context_.reporter.warning(
        stalled ? fmt::format("unpatching did not end in time{}: putting {} in force again", who,
                              report_.patch)
                : fmt::format("interrupted: putting {} in force again", report_.patch));
    auto tool = set_enabled_patiently(context_, report_.patch, true);
    report_.taken_out = false;
    if (was_patching() && tool && tool->ok) {
      return conclude(stalled ? Outcome::stalled_reverted : Outcome::failed_restored,
                      fmt::format("{}{}; {} is being patched again, as before",
                                  stalled ? "unpatching did not end in time" : "interrupted", who,
                                  report_.patch),
                      "Watch it with `vpatch status`.");
    }
    auto end = await_transition(context_, report_.patch, kRestoreLimit, false);
    const bool ended = end && end->how == TransitionEnd::How::ended;
    if (ended && !end->enabled()) {
      context_.reporter.warning(
          "too late: the transition has just ended, the patch is out of force");
      report_.taken_out = true;
      return true;
    }
    if (!ended) {
      const Error why = !end    ? end.error()
                        : !tool ? tool.error()
                                : Error{Outcome::failed_needs_look,
                                        tool->ok ? "it does not end in time" : tool->message};
      return conclude_in_doubt(
          why, fmt::format("{} could not be put in force again: {}", report_.patch, why.what),
          "See with `vpatch status`.");
    }
    if (stalled) {
      return conclude(
          Outcome::stalled_reverted,
          fmt::format("unpatching {} did not end within {:.0f} s{}; it is in force again",
                      report_.patch, std::chrono::duration<double>(options_.timeout).count(), who),
          "Try again when that task is gone, or with a longer --timeout.");
    }
    return conclude(Outcome::failed_restored,
                    fmt::format("interrupted; {} is in force, as before", report_.patch));
  }

  void note_kernel_log() {
    if (auto lines = context_.guest.log_since(log_mark_, context_.steady())) {
      report_.kernel_log = *std::move(lines);
    }
  }

  /// Says why the module stays loaded.
  void keep_module(const ForcedPatch& forced) {
    warn(context_.reporter, report_,
         {Severity::warning, "forced-kept",
          fmt::format("module {} stays loaded: {}", report_.patch, describe(forced)),
          "A task may still be in its code: plan a reboot of the guest."});
  }

  bool unload() {
    if (forced_) {
      keep_module(*forced_);
      return true;
    }
    context_.reporter.progress(fmt::format("unloading {}", report_.patch));
    if (auto unloaded = unload_module(context_, report_.patch); !unloaded) {
      return conclude_in_doubt(unloaded.error(), unloaded.error().what, unloaded.error().hint);
    }
    report_.unloaded.push_back(report_.patch);
    context_.reporter.step(fmt::format("unloaded {}", report_.patch));
    return true;
  }

  void finish() {
    if (!unload()) {
      return;
    }
    auto state = observe_patiently(context_);
    if (!state) {
      conclude_in_doubt(
          state.error(),
          fmt::format("{} is out of force, but that could not be verified", report_.patch),
          "See with `vpatch status`.");
      return;
    }
    if (state->find_patch(report_.patch) != nullptr) {
      conclude(Outcome::failed_needs_look,
               fmt::format("{} was out of force, and is there again", report_.patch),
               "See with `vpatch status`.");
      return;
    }
    report_.transition_us = measured_transition(*state, report_.patch, "unpatched");
    if (const auto well = look_at_log(context_, log_mark_, report_); !well) {
      conclude_in_doubt(well.error(),
                        fmt::format("{} is reverted, but {}", report_.patch, well.error().what),
                        "Look at the guest's kernel log.");
      return;
    }
    conclude(Outcome::done, fmt::format("{} is reverted{}{}", report_.patch, how_it_went(report_),
                                        forced_ ? "; its module stays loaded" : ""));
    prove_gone(context_, {report_.patch}, mark_, report_);
  }

  Context& context_;
  const RevertOptions& options_;
  Report report_;
  GuestState before_;
  std::string log_mark_;
  std::optional<GuestMark> mark_;
  std::optional<ForcedPatch> forced_;  // a transition of this patch, before
};

}  // namespace

Report revert(Context& context, const RevertOptions& options) {
  return Revert(context, options).run();
}

}  // namespace vpatch
