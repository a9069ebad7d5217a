// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/force.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/operation/clean_up.h"
#include "vmm-agent/operation/log_trouble.h"
#include "vmm-agent/operation/patience.h"
#include "vmm-agent/operation/transition.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

/// One force. Each step returns false once the report is concluded.
class Force {
 public:
  Force(Context& context, const ForceOptions& options) : context_(context), options_(options) {}

  Report run() {
    const auto start = context_.clock.now();
    if (choose() && ask() && look_before() && still_runs() && write() && complete()) {
      verify();
    }
    report_.elapsed = std::chrono::duration_cast<milliseconds>(context_.clock.now() - start);
    return std::move(report_);
  }

 private:
  bool conclude(Outcome outcome, std::string text, std::string hint = {}) {
    report_.conclude(outcome, fmt::format("{}: {}", context_.domain, text), std::move(hint));
    return false;
  }
  bool conclude_in_doubt(const Error& why, std::string_view text, std::string hint) {
    report_.conclude_in_doubt(why, fmt::format("{}: {}", context_.domain, text), std::move(hint));
    return false;
  }
  bool untouched() {
    return conclude(Outcome::refused, "interrupted before the guest was touched");
  }
  bool interrupted() const { return context_.stop.stop_requested(); }
  bool patching() const { return direction_ == PatchPhase::patching; }

  bool choose() {
    context_.reporter.progress("reading the guest");
    const auto state = context_.guest.observe(context_.interruptible());
    if (!state) {
      return interrupted()
                 ? untouched()
                 : conclude(state.error().outcome, state.error().what, state.error().hint);
    }
    const GuestPatch* const patch = state->in_transition();
    report_.patch = options_.patch.empty() && patch != nullptr ? patch->name : options_.patch;
    if (patch == nullptr) {
      return conclude(Outcome::refused, "no transition runs; there is nothing to force",
                      "`vpatch status` shows the livepatches.");
    }
    if (patch->name != report_.patch) {
      return conclude(Outcome::refused,
                      fmt::format("the guest is {} {}, not {}", to_string(patch->phase()),
                                  patch->name, report_.patch));
    }
    direction_ = patch->phase();
    return true;
  }

  bool ask() {
    const auto pending = context_.introspection != nullptr
                             ? context_.introspection->pending(context_.interruptible())
                             : context_.guest.pending_tasks(patching(), context_.interruptible());
    if (!pending) {
      return interrupted()
                 ? untouched()
                 : conclude(Outcome::refused,
                            "whom a force would move cannot be told: " + pending.error().what,
                            pending.error().hint);
    }
    if (pending->count == 0) {
      return conclude(Outcome::refused,
                      fmt::format("no task is pending: the kernel is ending the transition of {}",
                                  report_.patch),
                      "Watch it with `vpatch status`.");
    }
    report_.blockers = *pending;
    const auto yes = options_.confirm({context_.domain, report_.patch, direction_, *pending});
    if (interrupted()) {
      return untouched();
    }
    return yes ? true : conclude(yes.error().outcome, yes.error().what, yes.error().hint);
  }

  /// All that the verification is held against.
  bool look_before() {
    if (context_.introspection != nullptr) {
      if (auto mark = context_.introspection->mark(context_.interruptible())) {
        mark_ = *std::move(mark);
      }
    }
    auto mark = context_.guest.log_mark(context_.interruptible());
    if (!mark) {
      return interrupted() ? untouched()
                           : conclude(mark.error().outcome, mark.error().what, mark.error().hint);
    }
    log_mark_ = *std::move(mark);
    return true;
  }

  /// The answer may have taken minutes.
  bool still_runs() {
    const auto state = context_.guest.observe(context_.interruptible());
    if (!state) {
      return interrupted()
                 ? untouched()
                 : conclude(state.error().outcome, state.error().what, state.error().hint);
    }
    const GuestPatch* const patch = state->find_patch(report_.patch);
    if (patch == nullptr || !patch->transition) {
      return ended_by_itself();
    }
    if (patch->phase() != direction_) {
      return conclude(Outcome::refused,
                      fmt::format("the transition of {} has turned round: it is {}", report_.patch,
                                  to_string(patch->phase())));
    }
    return interrupted() ? untouched() : true;
  }

  bool ended_by_itself() {
    report_.blockers = {};
    return conclude(Outcome::done, fmt::format("the transition of {} has ended by itself; nothing "
                                               "was forced",
                                               report_.patch));
  }

  /// Whether the guest is seen without this transition.
  bool is_over() {
    const auto state = observe_patiently(context_);
    const GuestPatch* const patch = state ? state->find_patch(report_.patch) : nullptr;
    return state && (patch == nullptr || !patch->transition);
  }

  /// Without a reply the request may have been carried out all the same, and what is asked again
  /// finds no transition any more.
  bool write() {
    context_.reporter.progress(fmt::format("forcing {}", report_.patch));
    const auto tool = patiently(context_, [this]() -> Result<ToolResult> {
      auto written = context_.guest.force(report_.patch, context_.steady());
      lost_ = lost_ || !written;
      return !written && is_over() ? ToolResult{true, {}} : written;
    });
    if (!tool) {
      return conclude_in_doubt(
          tool.error(),
          fmt::format("whether {} was forced is not known: {}", report_.patch, tool.error().what),
          "See with `vpatch status`.");
    }
    if (!tool->ok && !lost_) {
      if (is_over()) {
        return ended_by_itself();
      }
      return conclude(Outcome::failed_restored, fmt::format("the kernel refused to force {}: {}",
                                                            report_.patch, tool->message));
    }
    report_.taken_out = !patching();
    const auto& first = report_.blockers.first;
    warn(context_.reporter, report_,
         {Severity::warning, "forced",
          fmt::format("{} of {} was forced with {} task(s) pending{}", to_string(direction_),
                      report_.patch, report_.blockers.count,
                      first.empty() ? "" : ", such as " + describe(first.front())),
          "These may mix old and new code: plan a reboot of the guest."});
    return true;
  }

  bool complete() {
    Context plain = context_;
    plain.assistance = nullptr;  // nothing is left to help with: it was never begun
    const auto end = await_transition(plain, report_.patch, options_.timeout, true);
    if (!end) {
      return conclude_in_doubt(end.error(),
                               fmt::format("{} was forced, but the guest fell silent: {}",
                                           report_.patch, end.error().what),
                               "See with `vpatch status`.");
    }
    if (end->how != TransitionEnd::How::ended) {
      return conclude(Outcome::stalled_waiting,
                      fmt::format("{} was forced; the kernel is still completing its transition",
                                  report_.patch),
                      "It ends by itself; watch it with `vpatch status`.");
    }
    if (end->enabled() != patching()) {
      return conclude(Outcome::failed_needs_look,
                      fmt::format("{} was forced, and is {} in force nevertheless", report_.patch,
                                  patching() ? "not" : "still"),
                      "See with `vpatch status`.");
    }
    return true;
  }

  void verify() {
    auto well = look_at_log(context_, log_mark_, report_);
    if (well && patching()) {
      well = look_at_memory();
    }
    const std::string text =
        fmt::format("{} was forced and is {}; plan a reboot of the guest", report_.patch,
                    patching() ? "in force" : "out of force, its module stays");
    if (!well) {
      conclude_in_doubt(well.error(), fmt::format("{}; {}", text, well.error().what),
                        "Look at the guest's kernel log.");
      return;
    }
    conclude(Outcome::done, text);
    if (!patching()) {
      prove_gone(context_, {report_.patch}, mark_, report_);
    }
  }

  Result<void> look_at_memory() {
    if (context_.introspection == nullptr || !mark_) {
      return {};
    }
    const auto found = patiently(context_, [this] {
      return context_.introspection->problems(report_.patch, *mark_, context_.steady());
    });
    if (!found) {
      report_.findings.push_back({Severity::warning, "not-proved",
                                  "not proved from guest memory: " + found.error().what,
                                  found.error().hint});
      return {};
    }
    return found->empty() ? Result<void>() : fail(Outcome::failed_needs_look, found->front());
  }

  Context& context_;
  const ForceOptions& options_;
  Report report_;
  PatchPhase direction_{};
  bool lost_ = false;  // a request or its reply
  std::string log_mark_;
  std::optional<GuestMark> mark_;
};

}  // namespace

Report force(Context& context, const ForceOptions& options) {
  return Force(context, options).run();
}

}  // namespace vpatch
