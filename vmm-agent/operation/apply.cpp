// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/apply.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/operation/clean_up.h"
#include "vmm-agent/operation/clear_instant.h"
#include "vmm-agent/operation/log_trouble.h"
#include "vmm-agent/operation/patience.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLateLoad{15'000};  ///< given to an insmod whose reply was lost

/// One apply. Each step returns false once the report is concluded.
class Apply {
 public:
  Apply(Context& context, const LivepatchFile& file, const ApplyOptions& options)
      : context_(context), file_(file), options_(options) {
    report_.patch = file.name;
  }

  Report run() {
    const auto start = context_.clock.now();
    if (preflight() && deliver() && wait_until_clear() && patch() && verify()) {
      clean_up();
    }
    report_.elapsed = std::chrono::duration_cast<milliseconds>(context_.clock.now() - start);
    return std::move(report_);
  }

 private:
  /// The change itself, with the assistance at work from before it begins until it is over.
  bool patch() {
    if (context_.assistance != nullptr && !quiesced_.empty()) {
      context_.assistance->watch_inside(quiesced_);
    }
    begin_assistance(context_, file_.name);
    const bool patched = not_interrupted() && load() && transition();
    end_assistance(context_, report_);
    return patched;
  }

  bool interrupted() const { return context_.stop.stop_requested(); }

  /// The last instant at which Ctrl-C costs nothing.
  bool not_interrupted() {
    const bool loads = plan_.action != ApplyAction::join;
    return !(loads && interrupted()) || abandon_delivery(Error{Outcome::refused, "interrupted"});
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

  bool preflight() {
    context_.reporter.progress("reading the guest");
    auto state = context_.guest.observe(context_.interruptible());
    if (!state) {
      return interrupted() ? untouched() : conclude(state.error());
    }
    before_ = *std::move(state);
    report_.boot_id = before_.boot_id;
    std::string build_id;
    if (before_.find_module(file_.name) != nullptr) {
      auto found = context_.guest.module_build_id(file_.name, context_.interruptible());
      if (!found) {
        return interrupted() ? untouched() : conclude(found.error());
      }
      build_id = *std::move(found);
    }
    const GuestFacts facts = context_.introspection != nullptr
                                 ? context_.introspection->facts(file_, context_.interruptible())
                                 : unknown_facts("guest memory cannot be read");
    plan_ = plan_apply(file_, before_, facts, build_id, options_.preflight);
    report_.findings = plan_.findings;
    if (plan_.action == ApplyAction::refuse) {
      const auto reason = std::ranges::find(plan_.findings, Severity::error, &Finding::severity);
      return conclude(Outcome::refused, describe(*reason), reason->hint);
    }
    for (const Finding& finding : plan_.findings) {
      announce(finding);
    }
    context_.reporter.step(fmt::format("guest runs {}, {} livepatch(es) in force", before_.release,
                                       before_.patches.size()));
    if (plan_.action == ApplyAction::load || plan_.action == ApplyAction::replace_stale) {
      forecast();
    }
    if (!options_.quiesce.empty() && !locate_quiesced()) {
      return false;
    }
    if (options_.dry_run) {
      report_.replaced = plan_.replaces;
      return conclude(
          Outcome::done,
          fmt::format("dry run, nothing was changed; action: {}{}", to_string(plan_.action),
                      plan_.replaces.empty()
                          ? ""
                          : fmt::format("; would replace {}", fmt::join(plan_.replaces, ", "))));
    }
    if (plan_.action == ApplyAction::none) {
      // A former run may have been killed before it took its file away.
      if (auto removed = context_.guest.remove_delivered(context_.steady()); !removed) {
        context_.reporter.warning(removed.error().what);
      }
      for (const GuestPatch& other : before_.patches) {
        if (other.name != file_.name) {
          report_.beside.push_back(other.name);
        }
      }
      return conclude(Outcome::done, fmt::format("{} is already in force", file_.name));
    }
    return interrupted() ? untouched() : true;
  }

  void announce(const Finding& finding) {
    if (finding.severity == Severity::note) {
      context_.reporter.step("note: " + describe(finding));
    } else {
      context_.reporter.warning(describe(finding));
    }
  }

  void note(Finding finding) {
    announce(finding);
    report_.findings.push_back(std::move(finding));
  }

  /// Says who would block the patch now. What cannot be foretold stops nothing: the transition
  /// itself tells.
  void forecast() {
    if (context_.introspection == nullptr) {
      return;
    }
    context_.reporter.progress("looking for tasks that would block it");
    auto forecast = context_.introspection->forecast(file_, context_.interruptible());
    if (!forecast) {
      note({Severity::warning, "no-forecast",
            "which tasks would block it cannot be told: " + forecast.error().what,
            forecast.error().hint});
      return;
    }
    for (const std::string& text : forecast->unknown) {
      note({Severity::note, "forecast-unknown", "not looked for on stacks: " + text});
    }
    if (forecast->blockers.count == 0) {
      context_.reporter.step(fmt::format(
          "none of {} tasks would hold it up now{}{}", forecast->tasks,
          forecast->unknown.empty() ? "" : ", as far as could be looked for",
          forecast->running == 0 ? "" : fmt::format(" ({} running)", forecast->running)));
      return;
    }
    report_.blockers = std::move(forecast->blockers);
    note({Severity::warning, "would-block",
          fmt::format("{} of {} tasks would hold it up now: {}", report_.blockers.count,
                      forecast->tasks, describe(report_.blockers.first.front())),
          "The transition waits until they leave; see all with `vpatch stacks --blocking FILE`.",
          "R16"});
  }

  /// --quiesce: finds the functions, and who is inside of them now.
  bool locate_quiesced() {
    if (plan_.action == ApplyAction::none) {
      return true;
    }
    if (plan_.action == ApplyAction::join) {
      note({Severity::warning, "quiesce-late",
            "--quiesce comes too late: the transition was begun by an earlier run", ""});
      return true;
    }
    if (context_.introspection == nullptr) {
      return conclude(Outcome::refused, "--quiesce needs guest memory, which cannot be read",
                      "`vpatch doctor` says why; or load without --quiesce.");
    }
    auto found = context_.introspection->locate(options_.quiesce, context_.interruptible());
    if (!found) {
      return interrupted() ? untouched() : conclude(found.error());
    }
    quiesced_ = *std::move(found);
    const auto inside = context_.introspection->occupants(quiesced_, context_.interruptible());
    if (inside && inside->blockers.count > 0) {
      note({Severity::note, "quiesce-busy",
            fmt::format("{} task(s) may be inside what is to be left alone: {}",
                        inside->blockers.count, describe(inside->blockers.first.front())),
            ""});
    }
    return true;
  }

  /// --when-clear and --quiesce
  bool wait_until_clear() {
    if ((!options_.when_clear && quiesced_.empty()) || plan_.action == ApplyAction::join) {
      return true;
    }
    const ClearInstant wanted{.file = file_,
                              .unblocked = options_.when_clear.has_value(),
                              .quiesced = quiesced_,
                              .limit = options_.when_clear.value_or(kQuiesceWait)};
    auto clear = wait_for_clear_instant(context_, wanted, report_.blockers);
    return clear ? true : abandon_delivery(std::move(clear.error()));
  }

  bool untouched() {
    return conclude(Outcome::refused, "interrupted before the guest was touched");
  }

  bool deliver() {
    if (context_.introspection != nullptr) {
      if (auto mark = context_.introspection->mark(context_.interruptible())) {
        mark_ = *mark;
      } else if (!interrupted()) {
        context_.reporter.warning("the result will not be proved from guest memory: " +
                                  mark.error().what);
      }
    }
    forced_ = find_forced(context_, before_);
    if (auto mark = context_.guest.log_mark(context_.interruptible()); mark) {
      log_mark_ = *std::move(mark);
    } else {
      return interrupted() ? untouched() : conclude(mark.error());
    }
    if (plan_.action == ApplyAction::join) {
      auto removed = context_.guest.remove_delivered(context_.interruptible());
      return removed ? true : interrupted() ? untouched() : conclude(removed.error());
    }
    if (interrupted()) {
      return untouched();
    }
    if (plan_.action == ApplyAction::replace_stale && !unload_stale()) {
      return false;
    }
    const auto progress = [this](std::size_t done, std::size_t total) {
      context_.reporter.progress(fmt::format("delivering {} of {} KiB", done / 1024, total / 1024));
    };
    auto delivered = context_.guest.deliver(file_.name, file_.bytes, file_.sha256, progress,
                                            context_.interruptible());
    if (!delivered) {
      return abandon_delivery(std::move(delivered.error()));
    }
    if (interrupted()) {
      return abandon_delivery(Error{Outcome::failed_restored, "interrupted"});
    }
    context_.reporter.step(
        fmt::format("delivered {} ({} KiB)", file_.name, (file_.bytes.size() + 1023) / 1024));
    // Not just before the load: a locked journal must not make it miss a clear instant.
    const bool recorded =
        context_.reporter.record("load", {{"patch", file_.name}, {"boot_id", before_.boot_id}});
    if (!recorded && options_.must_record) {
      return abandon_delivery({Outcome::refused,
                               "the load cannot be recorded, and should it crash the guest, it "
                               "would be tried again and again",
                               "Mend the journal; `vpatch apply` does not depend on it."});
    }
    return true;
  }

  bool unload_stale() {
    if (const auto forced = std::ranges::find(forced_, file_.name, &ForcedPatch::patch);
        forced != forced_.end()) {
      return conclude(Outcome::refused,
                      fmt::format("the module {} stays loaded: {}", file_.name, describe(*forced)),
                      "Give the new livepatch a name of its own, or reboot the guest.");
    }
    if (auto unloaded = unload_module(context_, file_.name); !unloaded) {
      auto state = observe_patiently(context_);
      const bool unchanged = state && state->find_module(file_.name) != nullptr;
      return unchanged ? conclude(Outcome::refused, unloaded.error().what, unloaded.error().hint)
                       : conclude_in_doubt(unloaded.error(), unloaded.error().what,
                                           unloaded.error().hint);
    }
    context_.reporter.step(fmt::format("unloaded the stale module {}", file_.name));
    return true;
  }

  /// The delivery failed half way: take the file away, also when the agent comes back only after a
  /// while.
  bool abandon_delivery(Error error) {
    const bool stopped = interrupted();
    context_.reporter.progress("taking the delivered file away");
    const auto removed = remove_delivered_patiently();
    if (stopped) {
      error = Error{Outcome::failed_restored, "interrupted while the file was delivered"};
    }
    const bool unloaded = plan_.action == ApplyAction::replace_stale;
    if (removed) {
      return conclude(unloaded ? Outcome::failed_restored : error.outcome, error.what + as_before(),
                      error.hint);
    }
    const std::string text = error.what + "; a part of the file is left in the guest";
    const std::string hint =
        "Once the agent answers again, the next apply removes it; by hand: rm -r "
        "/run/vpatch-delivery";
    return unloaded || error.outcome == Outcome::refused
               ? conclude_in_doubt(removed.error(), text, hint)
               : conclude(error.outcome, text, hint);
  }

  /// What is left of this run in the guest, once all that could be taken back has been.
  std::string as_before() const {
    switch (plan_.action) {
      case ApplyAction::replace_stale:
        return "; the livepatches are as before, the stale module is unloaded";
      case ApplyAction::join:
        return "; the patch, which an earlier run had loaded, is out of the guest";
      default:
        return "; the guest is as before";
    }
  }

  Result<void> remove_delivered_patiently() {
    return patiently(context_,
                     [this] { return context_.guest.remove_delivered(context_.steady()); });
  }

  /// Ctrl-C does not cut the load itself short: what it did would be unknown.
  bool load() {
    if (plan_.action == ApplyAction::join) {
      return true;
    }
    context_.reporter.progress(fmt::format("loading {}", file_.name));
    report_.loaded = true;
    auto loaded = context_.guest.load(file_.name, context_.steady());
    auto state = observe_patiently(context_);
    const bool removed = loaded || remove_delivered_patiently();
    // Without a reply, insmod may still be at work with its file open.
    const auto start = context_.clock.now();
    while (!loaded && state && state->find_patch(file_.name) == nullptr &&
           context_.clock.now() - start < kLateLoad) {
      context_.clock.wait(kRetryAfterError, {});
      state = observe_patiently(context_);
    }
    if (!state) {
      return conclude_in_doubt(
          state.error(),
          fmt::format("{} was being loaded when the guest fell silent{}: {}", file_.name,
                      removed ? "" : ", its file is left there", state.error().what),
          "See with `vpatch status` whether it is in force; then apply or revert again.");
    }
    if (!removed) {
      context_.reporter.warning("the delivered file could not be removed; the next apply does it");
    }
    const bool in_sysfs = state->find_patch(file_.name) != nullptr;
    if (in_sysfs) {
      context_.reporter.step(fmt::format("loaded {}", file_.name));
      return true;
    }
    if (!loaded) {
      return take_back_and_conclude(loaded.error().what);
    }
    return take_back_and_conclude(
        loaded->ok ? "the module loaded, but put no livepatch in force"
                   : fmt::format("the kernel refused the module: {}", loaded->message));
  }

  bool conclude_rebooted() {
    context_.reporter.record("rebooted", {});
    return conclude(Outcome::failed_restored,
                    "the guest has rebooted meanwhile; no livepatch is in force",
                    "Apply it again.");
  }

  bool take_back_and_conclude(const std::string& why) {
    note_kernel_log();
    auto state = observe_patiently(context_);
    if (state && state->boot_id != before_.boot_id) {
      return conclude_rebooted();
    }
    if (!state || state->find_module(file_.name) != nullptr) {
      if (auto back = take_back(context_, file_.name); !back) {
        return conclude_in_doubt(back.error(), fmt::format("{}; {}", why, back.error().what),
                                 back.error().hint);
      }
    }
    return conclude_restored(Outcome::failed_restored, why,
                             report_.kernel_log.empty() ? "" : "The kernel's own words are below.");
  }

  /// The patch is out of the guest again. Were it a replace patch whose transition ended before it
  /// could be reversed, then the patches it replaced do not come back; and somebody else may have
  /// been at work meanwhile.
  bool conclude_restored(Outcome outcome, const std::string& why, std::string hint = {}) {
    auto state = observe_patiently(context_);
    if (!state) {
      return conclude_in_doubt(
          state.error(),
          fmt::format("{}; the guest could not be verified: {}", why, state.error().what),
          "See with `vpatch status`.");
    }
    if (state->boot_id != before_.boot_id) {
      return conclude_rebooted();
    }
    if (const std::string lost = missing_from(before_, *state); !lost.empty()) {
      return conclude(Outcome::failed_needs_look,
                      fmt::format("{}; what it replaced is no longer in force:{}", why, lost),
                      "Apply those livepatches again, or this one.");
    }
    if (const std::string others = missing_from(*state, before_); !others.empty()) {
      return conclude(Outcome::failed_needs_look,
                      fmt::format("{}; somebody else has loaded meanwhile:{}", why, others),
                      "See with `vpatch status`.");
    }
    return conclude(outcome, why + as_before(), std::move(hint));
  }

  /// Names of the other livepatches of `from` that `in` does not have.
  std::string missing_from(const GuestState& from, const GuestState& in) const {
    std::string names;
    for (const GuestPatch& patch : from.patches) {
      if (patch.name != file_.name && in.find_patch(patch.name) == nullptr) {
        names += " " + patch.name;
      }
    }
    return names;
  }

  void note_kernel_log() {
    if (auto lines = context_.guest.log_since(log_mark_, context_.steady())) {
      report_.kernel_log = *std::move(lines);
    }
  }

  bool transition() {
    auto end = await_transition(context_, file_.name, options_.timeout, true);
    if (!end) {
      return conclude_in_doubt(
          end.error(),
          fmt::format("{} is loaded, but the end of its transition was not seen: {}", file_.name,
                      end.error().what),
          "The kernel finishes the transition by itself; see with `vpatch status`.");
    }
    report_.blockers = end->blockers;
    if (end->how == TransitionEnd::How::ended) {
      if (end->enabled()) {
        return true;
      }
      if (auto state = observe_patiently(context_); state && state->boot_id != before_.boot_id) {
        return conclude_rebooted();
      }
      return take_back_and_conclude(fmt::format("somebody else took {} back", file_.name));
    }
    const bool stalled = end->how == TransitionEnd::How::timed_out;
    const std::string who = held_up_by(*end);
    if (end->completing()) {
      return conclude(
          Outcome::stalled_waiting, fmt::format("all tasks use {} by now{}", file_.name, who),
          "It can no longer be stopped, and ends by itself; watch it with `vpatch status`.");
    }
    if (stalled && options_.on_stall == OnStall::wait) {
      return conclude(
          Outcome::stalled_waiting,
          fmt::format("the transition of {} did not end in time{}; it is left pending, as asked",
                      file_.name, who),
          "Watch it with `vpatch status`, or take it back with `vpatch revert`.");
    }
    if (!stalled && plan_.action == ApplyAction::join) {
      return conclude(
          Outcome::refused,
          fmt::format("interrupted; the transition of {}, which an earlier run began, goes on",
                      file_.name),
          "Watch it with `vpatch status`, or take it back with `vpatch revert`.");
    }
    return reverse(stalled, who);
  }

  bool reverse(bool stalled, const std::string& who) {
    context_.reporter.warning(
        stalled ? fmt::format("the transition did not end in time{}: reversing it", who)
                : "interrupted: reversing the transition");
    // The last pass may have ended it meanwhile. A patch in force stays: replaced ones could not
    // come back.
    if (auto state = observe_patiently(context_); state) {
      const GuestPatch* patch = state->find_patch(file_.name);
      if (patch != nullptr && patch->phase() == PatchPhase::patched) {
        context_.reporter.warning("too late: the transition has just ended, the patch is in force");
        return true;
      }
    }
    if (auto back = take_back(context_, file_.name); !back) {
      return conclude_in_doubt(back.error(), back.error().what, back.error().hint);
    }
    if (stalled) {
      return conclude_restored(
          Outcome::stalled_reverted,
          fmt::format("the transition of {} did not end within {:.0f} s{}; reverted", file_.name,
                      std::chrono::duration<double>(options_.timeout).count(), who),
          "Try again when that task is gone, or with a longer --timeout.");
    }
    return conclude_restored(Outcome::failed_restored, "interrupted");
  }

  bool verify() {
    context_.reporter.progress("verifying");
    auto state = observe_patiently(context_);
    if (!state) {
      return conclude_in_doubt(state.error(),
                               fmt::format("{} is in force, but could not be verified: {}",
                                           file_.name, state.error().what),
                               "See with `vpatch status`.");
    }
    report_.transition_us = measured_transition(*state, file_.name, "patched");
    for (const GuestPatch& old : before_.patches) {
      const bool may_replace = !file_.contents || file_.contents->replace.value_or(true);
      if (may_replace && old.name != file_.name && state->find_patch(old.name) == nullptr) {
        report_.replaced.push_back(old.name);
      }
    }
    auto well = find_problem(*state);
    if (well) {
      well = find_problem_in_memory();
    }
    if (!well) {
      return conclude_in_doubt(
          well.error(), fmt::format("{} is in force, but {}", file_.name, well.error().what),
          "Look at the guest's kernel log; `vpatch revert` takes the patch back.");
    }
    std::string text = fmt::format("{} is in force", file_.name);
    text += how_it_went(report_);
    context_.reporter.step("verified: " + text);
    conclude(Outcome::done, text);
    return true;
  }

  /// The same as guest memory tells it, which does not depend on what the guest says of itself.
  Result<void> find_problem_in_memory() {
    if (context_.introspection == nullptr || !mark_) {
      return {};
    }
    const auto found = patiently(context_, [this] {
      return context_.introspection->problems(file_.name, *mark_, context_.steady());
    });
    if (!found) {
      warn(context_.reporter, report_,
           {Severity::warning, "not-proved", "not proved from guest memory: " + found.error().what,
            found.error().hint});
      return {};
    }
    proved_ = true;
    if (found->empty()) {
      context_.reporter.step("proved from guest memory: every function is redirected");
      return {};
    }
    return problem(found->front());
  }

  static std::unexpected<Error> problem(std::string text) {
    return fail(Outcome::failed_needs_look, std::move(text));
  }

  /// What in the guest is not as it should be after the transition.
  Result<void> find_problem(const GuestState& state) {
    const GuestPatch* patch = state.find_patch(file_.name);
    if (patch == nullptr || patch->phase() != PatchPhase::patched) {
      return problem("the kernel no longer shows it so");
    }
    for (const PatchedObject& object :
         file_.contents ? file_.contents->objects : std::vector<PatchedObject>()) {
      const bool present = object.name == "vmlinux" || state.find_module(object.name) != nullptr;
      const auto shown = std::ranges::find(patch->objects, object.name, &GuestPatchedObject::name);
      if (shown == patch->objects.end()) {
        return problem(fmt::format("the kernel does not list its object {}", object.name));
      }
      if (present && shown->patched == false) {
        return problem(fmt::format("its object {} is not patched", object.name));
      }
    }
    if (const std::uint64_t fresh = state.tainted & ~before_.tainted & ~kExpectedTaint;
        fresh != 0) {
      note_kernel_log();
      return problem(fmt::format("the kernel is newly tainted ({})", taint_letters(fresh)));
    }
    return look_at_log(context_, log_mark_, report_);
  }

  void clean_up() {
    clean_up_replaced(context_,
                      {.patch = file_.name,
                       .grace = options_.grace,
                       .mark = proved_ ? mark_ : std::nullopt,
                       .forced_before = forced_,
                       .find_problem =
                           [this] {
                             auto state = observe_patiently(context_);
                             return state ? find_problem(*state)
                                          : std::unexpected(std::move(state.error()));
                           }},
                      report_);
  }

  Context& context_;
  const LivepatchFile& file_;
  const ApplyOptions& options_;
  Report report_;
  GuestState before_;
  ApplyPlan plan_;
  std::string log_mark_;
  std::optional<GuestMark> mark_;
  bool proved_ = false;              // from guest memory
  std::vector<ForcedPatch> forced_;  // before the load
  std::vector<introspect::ForbiddenFunction> quiesced_;
};

}  // namespace

Report apply(Context& context, const LivepatchFile& file, const ApplyOptions& options) {
  return Apply(context, file, options).run();
}

}  // namespace vpatch
