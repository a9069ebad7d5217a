// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/transition.h"

#include <charconv>
#include <condition_variable>
#include <mutex>

#include <fmt/format.h>

#include "vmm-agent/operation/patience.h"

namespace vpatch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll{100};
constexpr milliseconds kNameBlockersAfter{1500};
constexpr milliseconds kNameBlockersEach{2000};
constexpr milliseconds kTakeBackLimit{60'000};
constexpr milliseconds kUnloadLimit{10'000};
constexpr int kUnloadTries = 3;  ///< at least, should one of them take longer than the limit

milliseconds since(Clock& clock, Clock::TimePoint start) {
  return std::chrono::duration_cast<milliseconds>(clock.now() - start);
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
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
}

std::string describe(const PendingTask& task) {
  std::string text =
      fmt::format("{} ({}{}{})", task.name, task.tid, task.state.empty() ? "" : ", ", task.state);
  if (!task.why.empty()) {
    text += ": " + task.why;
  } else if (!task.stack.empty()) {
    text += " in " + task.stack.front();
  }
  return text;
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

Result<TransitionEnd> await_transition(Context& context, const std::string& patch,
                                       milliseconds limit, bool interruptible) {
  const auto start = context.clock.now();
  const std::stop_token stop = interruptible ? context.stop : std::stop_token();
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
    if (!state || (tries >= kUnloadTries && since(context.clock, start) >= kUnloadLimit)) {
      const std::string reason = !tool    ? tool.error().what
                                 : !state ? state.error().what
                                          : tool->message;
      return fail(Outcome::failed_needs_look,
                  fmt::format("module {} stays loaded: {}", module, reason),
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
