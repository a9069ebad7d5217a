// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/task_stacks.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/domain/pause.h"

namespace vpatch {
namespace {

using introspect::BlockReason;
using introspect::Look;
using introspect::LookOptions;
using introspect::Task;
using std::chrono::steady_clock;

bool is_named(const Task& task, const std::string& wanted) {
  std::uint32_t tid = 0;
  const char* const end = wanted.data() + wanted.size();
  const auto [stop, error] = std::from_chars(wanted.data(), end, tid);
  return error == std::errc() && stop == end ? task.tid == tid : task.name == wanted;
}

/// One look, with the vCPUs' registers, and the time it took.
struct TimedLook {
  Look look;
  std::chrono::microseconds took{0};
  std::optional<std::chrono::microseconds> pause;
};

Result<TimedLook> look_once(GuestView& view, bool paused, const StacksOptions& options,
                            const qmp::CallOptions& calls) {
  const auto start = steady_clock::now();
  auto registers = view.registers(calls);
  if (!registers) {
    return std::unexpected(registers.error());
  }
  LookOptions how{.vcpus = *registers, .paused = paused, .wanted = {}};
  if (!options.task.empty()) {
    how.wanted = [&options](const Task& task) { return is_named(task, options.task); };
  }
  auto look = introspect::look_at_stacks(view.kernel(), how);
  if (!look) {
    return std::unexpected(from_introspect(look.error()));
  }
  const auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - start);
  return TimedLook{*std::move(look), took, {}};
}

Result<TimedLook> look_as_asked(GuestView& view, Domain* domain, const Target& target,
                                const StacksOptions& options, const qmp::CallOptions& calls) {
  if (!options.paused || domain == nullptr) {
    return look_once(view, view.is_still(), options, calls);
  }
  auto pause = Pause::take(*domain, target, kLookPause, calls);
  if (!pause) {
    return std::unexpected(pause.error());
  }
  auto look = look_once(view, true, options, calls);
  const bool ours = pause->ours();
  if (look && !pause->still_holds(calls)) {
    look = fail(Outcome::unreachable, "the VM ran on during the look: the pause took too long",
                "Try again when the host is less busy, or without --paused.");
  }
  const auto length = pause->resume();
  if (!length) {
    return std::unexpected(length.error());
  }
  if (look && ours) {
    look->pause = *length;
  }
  return look;
}

NamedStack named(const introspect::TaskStack& stack, const introspect::Symbolizer& symbols,
                 bool scheduler_frames) {
  NamedStack result;
  result.task = stack.task;
  result.activity = stack.activity;
  result.unreliable = stack.trace.unreliable;
  result.vcpu = stack.vcpu;
  result.frames = name_frames(stack, symbols, scheduler_frames);
  return result;
}

}  // namespace

std::vector<introspect::FunctionToChange> functions_of(const LivepatchFile& file) {
  std::vector<introspect::FunctionToChange> functions;
  if (file.contents) {
    for (const PatchedObject& object : file.contents->objects) {
      for (const PatchedFunction& function : object.functions) {
        functions.push_back({object.name, function.name, function.position});
      }
    }
  }
  return functions;
}

Result<StacksReport> read_stacks(GuestView& view, Domain* domain, const Target& target,
                                 const StacksOptions& options, const qmp::CallOptions& calls) {
  auto look = look_as_asked(view, domain, target, options, calls);
  if (!look) {
    return std::unexpected(std::move(look.error()).in_context(view.name()));
  }
  StacksReport report;
  report.release = view.kernel().info().release;
  report.tasks_seen = look->look.tasks.size();
  report.incomplete = look->look.incomplete;
  report.why_incomplete = look->look.why;
  report.look = look->took;
  report.pause = look->pause;
  if (look->look.tasks.empty() && !options.task.empty()) {
    return fail(Outcome::refused, fmt::format("{} has no task {}", view.name(), options.task),
                "List all with `vpatch stacks`.");
  }

  const introspect::Symbolizer symbols(view.kernel(), std::move(look->look.modules));
  if (options.blocking == nullptr) {
    for (const introspect::TaskStack& stack : look->look.tasks) {
      report.stacks.push_back(named(stack, symbols, options.scheduler_frames));
    }
    return report;
  }
  auto state = introspect::read_livepatch(view.kernel());
  if (!state) {
    return std::unexpected(
        from_introspect(std::move(state.error()).in_context("read the livepatch state")));
  }
  const LivepatchFile& file = *options.blocking;
  auto prediction = introspect::predict_forbidden(
      [&symbols](std::string_view object, std::string_view name) {
        return symbols.named(object, name);
      },
      *state, functions_of(file), file.contents && file.contents->replace == true);
  report.unknown = std::move(prediction.unknown);
  if (!file.contents) {
    report.unknown.push_back("what the file changes: " + file.contents_unknown);
  } else if (!file.contents->replace.has_value() && !state->patches.empty()) {
    report.unknown.emplace_back("what it takes back: only its code knows whether it is cumulative");
  }
  for (const auto& blocker : introspect::find_blockers(look->look.tasks, prediction.forbidden)) {
    if (!blocker.holds()) {
      ++report.running;
      continue;
    }
    const introspect::TaskStack& stack = look->look.tasks[blocker.task];
    NamedStack one = named(stack, symbols, options.scheduler_frames);
    one.blocks = blocker.reason;
    one.why = describe(blocker, stack, prediction.forbidden);
    report.stacks.push_back(std::move(one));
  }
  return report;
}

}  // namespace vpatch
