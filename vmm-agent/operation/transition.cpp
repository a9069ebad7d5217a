// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/transition.h"

#include <charconv>

#include <fmt/format.h>

#include "vmm-agent/operation/patience.h"
#include "vmm-agent/wait.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll{100};
constexpr milliseconds kNameBlockersAfter{1500};
constexpr milliseconds kNameBlockersEach{2000};
constexpr milliseconds kTakeBackLimit{60'000};
constexpr milliseconds kUnloadLimit{10'000};
/// What the kernel mostly takes for the last stage of a transition, and more.
constexpr milliseconds kCompletion{10'000};
constexpr int kUnloadTries = 3;  ///< at least, should one of them take longer than the limit

milliseconds since(Clock& clock, Clock::TimePoint start) {
  return std::chrono::duration_cast<milliseconds>(clock.now() - start);
}

/// What the guest agent says in the end of a transition that was watched from memory.
Result<TransitionEnd> given_up(Context& context, const std::string& patch,
                               const AssistedEnd& assisted) {
  auto state = observe_patiently(context);
  if (!state) {
    return std::unexpected(state.error());
  }
  TransitionEnd end;
  const GuestPatch* found = state->find_patch(patch);
  end.patch = found != nullptr ? std::optional(*found) : std::nullopt;
  if (found == nullptr || !found->transition) {
    return end;
  }
  end.how = assisted.how == AssistedEnd::How::timed_out ? TransitionEnd::How::timed_out
                                                        : TransitionEnd::How::interrupted;
  end.blockers = assisted.pending;
  end.stage = assisted.stage;
  return end;
}

std::string progress_text(const GuestPatch& patch, milliseconds elapsed,
                          const PendingTasks& pending) {
  std::string text = fmt::format("{} {}: {:.1f} s", to_string(patch.phase()), patch.name,
                                 std::chrono::duration<double>(elapsed).count());
  if (pending.count > 0) {
    text += fmt::format(", {} pending", pending.count);
  }
  if (!pending.first.empty()) {
    text += ": " + describe(pending.first.front());
  }
  return text;
}

}  // namespace

void SteadyClock::wait(milliseconds duration, const std::stop_token& stop) {
  wait_unless_stopped(duration, stop);
}

std::optional<std::uint64_t> measured_transition(const GuestState& state, const std::string& patch,
                                                 std::string_view result) {
  const auto field = [&state](std::string_view name) -> std::string_view {
    const auto found = state.guest_module.find(name);
    return found == state.guest_module.end() ? std::string_view() : std::string_view(found->second);
  };
  const std::string_view text = field("last_transition_us");
  std::uint64_t value = 0;
  if (field("patch") != patch || field("last_result") != result ||
      std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

std::string held_up_by(const TransitionEnd& end) {
  if (!end.blockers.first.empty()) {
    return "; blocked by " + describe(end.blockers.first.front());
  }
  return end.stage.empty() ? "" : "; the kernel is completing it, and waits " + end.stage;
}

void begin_assistance(Context& context, const std::string& patch) {
  if (context.assistance != nullptr) {
    context.assistance->begin(patch, context.stop);
  }
}

void end_assistance(Context& context, Report& report) {
  if (context.assistance == nullptr) {
    return;
  }
  TransitionRecord record = context.assistance->finish();
  for (const AssistNote& note : record.notes) {
    const std::string text = note.text + (note.hint.empty() ? "" : " " + note.hint);
    report.findings.push_back(
        {note.serious ? Severity::warning : Severity::note, note.id, note.text, note.hint});
    if (note.serious) {
      context.reporter.warning(text);
    } else {
      context.reporter.step("note: " + text);
    }
  }
  if (record.seen) {
    report.transition = std::move(record);
  }
}

std::string how_it_went(const Report& report) {
  std::optional<double> lasted;
  if (report.transition) {
    lasted = std::chrono::duration<double, std::milli>(report.transition->lasted).count();
  } else if (report.transition_us) {
    lasted = static_cast<double>(*report.transition_us) / 1000.0;
  }
  std::string text = lasted ? fmt::format("transition {:.1f} ms", *lasted) : "";
  if (report.transition && report.transition->pauses > 0) {
    text +=
        fmt::format("{}guest paused {:.1f} ms", text.empty() ? "" : ", ",
                    std::chrono::duration<double, std::milli>(report.transition->paused).count());
  }
  return text.empty() ? text : " (" + text + ")";
}

Result<TransitionEnd> await_transition(Context& context, const std::string& patch,
                                       milliseconds limit, bool interruptible) {
  const auto start = context.clock.now();
  const std::stop_token stop = interruptible ? context.stop : std::stop_token();
  if (context.assistance != nullptr) {
    const auto assisted = context.assistance->await(
        limit, stop, [&](std::string_view text) { context.reporter.progress(text); });
    if (assisted && assisted->how != AssistedEnd::How::ended) {
      auto end = given_up(context, patch, *assisted);
      if (end && end->how == TransitionEnd::How::interrupted && end->completing()) {
        context.reporter.warning(
            "too late to be stopped: all tasks have moved, the kernel is completing it");
        return await_transition(context, patch, kCompletion, false);
      }
      return end;
    }
    if (!assisted && assisted.error().outcome == Outcome::failed_needs_look) {
      return std::unexpected(assisted.error());
    }
    if (!assisted) {
      context.reporter.warning(
          "the transition is no longer watched from outside, the guest agent is asked: " +
          assisted.error().what + (assisted.error().hint.empty() ? "" : " ") +
          assisted.error().hint);
    }
  }
  TransitionEnd end;
  milliseconds blockers_asked{0};
  for (;;) {
    auto state = observe_patiently(context);
    const milliseconds elapsed = since(context.clock, start);
    if (state) {
      const GuestPatch* found = state->find_patch(patch);
      end.patch = found != nullptr ? std::optional(*found) : std::nullopt;
      if (found == nullptr || !found->transition) {
        end.how = TransitionEnd::How::ended;
        return end;
      }
      const bool last_look = elapsed >= limit || stop.stop_requested();
      if (last_look ||
          (elapsed >= kNameBlockersAfter && elapsed - blockers_asked >= kNameBlockersEach)) {
        if (auto pending = context.guest.pending_tasks(found->enabled, context.steady())) {
          end.blockers = *std::move(pending);
        }
        blockers_asked = elapsed;
      }
      context.reporter.progress(progress_text(*found, elapsed, end.blockers));
    } else if (elapsed >= limit) {
      return std::unexpected(state.error());
    }
    if (stop.stop_requested() || elapsed >= limit) {
      end.how =
          stop.stop_requested() ? TransitionEnd::How::interrupted : TransitionEnd::How::timed_out;
      return end;
    }
    context.clock.wait(state ? kPoll : kRetryAfterError, stop);
  }
}

Result<void> unload_module(Context& context, const std::string& module) {
  const auto start = context.clock.now();
  for (int tries = 1;; ++tries) {
    auto tool = context.guest.unload(module, context.steady());
    auto state = observe_patiently(context);
    if (state && state->find_module(module) == nullptr) {
      return {};
    }
    if (!state) {
      return fail(
          state.error().outcome,
          fmt::format("whether module {} is unloaded was not seen: {}", module, state.error().what),
          "See with `vpatch status`.");
    }
    if (tries >= kUnloadTries && since(context.clock, start) >= kUnloadLimit) {
      return fail(Outcome::failed_needs_look,
                  fmt::format("module {} stays loaded: {}", module,
                              tool ? tool->message : tool.error().what),
                  fmt::format("Once nothing uses it, unload it in the guest: rmmod {}", module));
    }
    context.clock.wait(kRetryAfterError, {});
  }
}

Result<ToolResult> set_enabled_patiently(Context& context, const std::string& patch, bool enabled) {
  return patiently(context, [&]() -> Result<ToolResult> {
    auto tool = context.guest.set_enabled(patch, enabled, context.steady());
    if (!tool) {
      // The request was lost, or only its reply: look which, for the kernel refuses to be told
      // twice.
      auto state = observe_patiently(context);
      const GuestPatch* found = state ? state->find_patch(patch) : nullptr;
      if (state && (found == nullptr || found->enabled == enabled)) {
        return ToolResult{true, {}};
      }
    }
    return tool;
  });
}

Result<void> take_back(Context& context, const std::string& patch) {
  auto state = observe_patiently(context);
  if (!state) {
    return std::unexpected(state.error());
  }
  if (const GuestPatch* found = state->find_patch(patch); found != nullptr) {
    std::string refusal;
    if (found->enabled) {
      auto tool = set_enabled_patiently(context, patch, false);
      if (!tool) {
        return std::unexpected(tool.error());
      }
      refusal = tool->ok ? "" : "; the kernel refused: " + tool->message;
    }
    auto end = await_transition(context, patch, kTakeBackLimit, false);
    if (!end) {
      return std::unexpected(end.error());
    }
    if (end->how != TransitionEnd::How::ended || end->enabled()) {
      const std::string who = end->blockers.first.empty()
                                  ? ""
                                  : "; " + describe(end->blockers.first.front()) + " blocks it";
      return fail(Outcome::failed_needs_look,
                  fmt::format("{} could not be taken back{}{}", patch, refusal, who),
                  "Look at the guest with `vpatch status`.");
    }
  }
  return unload_module(context, patch);
}

}  // namespace vpatch
