// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/status.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "introspect/guest/blockers.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/operation/task_stacks.h"
#include "vmm-agent/wait.h"

namespace vpatch {
namespace {

constexpr std::size_t kTasksShown = 16;
constexpr int kTries = 3;
constexpr std::chrono::milliseconds kLetGo{30};  ///< the kernel takes that for a patch's module

/// "S (sleeping)" as /proc/PID/status has it.
std::string state_text(const introspect::Task& task) {
  const char letter = task.state_letter();
  std::string_view word;
  switch (letter) {
    case 'R':
      word = "running";
      break;
    case 'S':
      word = "sleeping";
      break;
    case 'D':
      word = "disk sleep";
      break;
    case 'T':
      word = "stopped";
      break;
    case 't':
      word = "tracing stop";
      break;
    case 'X':
      word = "dead";
      break;
    case 'Z':
      word = "zombie";
      break;
    case 'P':
      word = "parked";
      break;
    case 'I':
      word = "idle";
      break;
    default:
      return std::string(1, letter);
  }
  return fmt::format("{} ({})", letter, word);
}

PendingTask pending_task(const introspect::TaskStack& stack,
                         const introspect::Symbolizer& symbols) {
  PendingTask task{.tid = stack.task.tid,
                   .name = stack.task.name,
                   .state = state_text(stack.task),
                   .stack = texts_of(name_frames(stack, symbols, false)),
                   .reason = "clear",
                   .why = "nothing holds it: it moves at the kernel's next try"};
  return task;
}

bool same_transition(const introspect::LivepatchState& a, const introspect::LivepatchState& b) {
  return a.transition == b.transition && a.target_state == b.target_state &&
         a.patches.size() == b.patches.size();
}

/// Fills in what the running transition still waits for.
Result<void> add_pending(GuestView& view, bool paused, const introspect::LivepatchState& livepatch,
                         const qmp::CallOptions& options, Status& status) {
  const auto registers = view.registers(options);
  if (!registers) {
    return std::unexpected(registers.error());
  }
  auto look = introspect::look_at_stacks(view.kernel(),
                                         {.vcpus = *registers, .paused = paused, .wanted = {}});
  if (!look) {
    return std::unexpected(from_introspect(look.error()));
  }
  TransitionProgress progress{.patch = livepatch.patches.at(livepatch.transition.value_or(0)).name,
                              .patching = livepatch.target_state != 0,
                              .tasks = look->tasks.size(),
                              .kernel_retries = livepatch.signals_count};
  std::size_t moved = 0;
  std::vector<introspect::TaskStack> waiting;
  for (introspect::TaskStack& stack : look->tasks) {
    if (stack.task.patch_state == livepatch.target_state) {
      ++moved;
    } else {
      waiting.push_back(std::move(stack));
    }
  }
  progress.moved = moved;
  status.transition = std::move(progress);

  const introspect::Symbolizer symbols(view.kernel(), std::move(look->modules));
  const auto forbidden = introspect::forbidden_now(livepatch);
  const auto blockers = introspect::find_blockers(waiting, forbidden);
  std::vector<PendingTask> tasks;
  tasks.reserve(waiting.size());
  for (const introspect::TaskStack& stack : waiting) {
    tasks.push_back(pending_task(stack, symbols));
  }
  for (const introspect::Blocker& blocker : blockers) {
    tasks[blocker.task].reason = introspect::to_string(blocker.reason);
    tasks[blocker.task].why = describe(blocker, waiting[blocker.task], forbidden);
  }
  // Those that hold the transition up come first.
  const auto holds = [](const PendingTask& task) {
    return task.reason == introspect::to_string(introspect::BlockReason::on_stack) ||
           task.reason == introspect::to_string(introspect::BlockReason::unreliable);
  };
  status.pending = PendingTasks{tasks.size(), {}};
  auto& first = status.pending->first;
  for (const bool holding : {true, false}) {
    for (const PendingTask& task : tasks) {
      if (holds(task) == holding && first.size() < kTasksShown) {
        first.push_back(task);
      }
    }
  }
  return {};
}

bool shows_kept_module(const std::vector<ForcedPatch>& forced) {
  return std::ranges::find(forced, ForcedSign::kept_module, &ForcedPatch::sign) != forced.end();
}

/// Fills in what was forced and refused since boot. A module that only looks kept is gone at the
/// next look.
void add_history(GuestView& view, const qmp::CallOptions& options, Status& status) {
  LivepatchLog log = read_livepatch_log(view);
  status.forced = forced_patches(status.guest, log);
  for (int tries = 0; tries < kTries && !view.is_still() && shows_kept_module(status.forced);
       ++tries) {
    wait_unless_stopped(kLetGo, options.stop);
    if (const auto again = read_memory_state(view)) {
      status.forced = forced_patches(again->guest, log);
    }
  }
  std::erase_if(log.refused, [&status](const auto& refused) {
    return status.guest.find_module(refused.module) != nullptr;
  });
  status.refused_modules = std::move(log.refused);
}

}  // namespace

const GuestPatch* base_of(const GuestState& guest) {
  const auto unknown = [](const GuestPatch& patch) { return !patch.replace.has_value(); };
  if (std::ranges::any_of(guest.patches, unknown)) {
    return nullptr;
  }
  const GuestPatch* base = nullptr;
  for (const GuestPatch& patch : guest.patches) {
    if (*patch.replace && patch.phase() == PatchPhase::patched) {
      base = &patch;
    }
  }
  return base;
}

std::string_view role_of(const GuestState& guest, const GuestPatch& patch) {
  const GuestPatch* const base = base_of(guest);
  if (base == nullptr || patch.name == base->name) {
    return base == nullptr ? "" : "base";
  }
  return *patch.replace ? "" : "addition";
}

Result<Status> read_status(GuestView& view, bool paused, const qmp::CallOptions& options) {
  auto state = read_memory_state(view);
  for (int tries = 0;; ++tries) {
    if (!state) {
      return std::unexpected(std::move(state.error()).in_context(view.name()));
    }
    Status status{.guest = std::move(state->guest)};
    status.build_id = view.kernel().info().build_id;
    add_history(view, options, status);
    if (!state->livepatch.transition) {
      return status;
    }
    if (auto done = add_pending(view, paused, state->livepatch, options, status); !done) {
      return std::unexpected(std::move(done.error()).in_context(view.name()));
    }
    // Had the transition ended or turned round meanwhile, the tasks would not fit the rest.
    auto after = read_memory_state(view);
    if (after && (tries == kTries || same_transition(state->livepatch, after->livepatch))) {
      return status;
    }
    state = std::move(after);
  }
}

Result<Status> ask_status(Context& context) {
  auto guest = context.guest.observe(context.interruptible());
  if (!guest) {
    return std::unexpected(guest.error());
  }
  Status status{.guest = *std::move(guest)};
  auto& patches = status.guest.patches;
  status.ordered = std::ranges::all_of(
      patches, [](const GuestPatch& patch) { return patch.stack_order.has_value(); });
  if (status.ordered) {
    std::ranges::sort(patches, {}, &GuestPatch::stack_order);
  }
  if (const GuestPatch* patch = status.guest.in_transition(); patch != nullptr) {
    auto pending = context.guest.pending_tasks(patch->enabled, context.interruptible());
    status.transition = TransitionProgress{.patch = patch->name, .patching = patch->enabled};
    // A list too long to be made in time is no reason to hide the rest.
    status.pending = pending ? std::optional(*std::move(pending)) : std::nullopt;
  }
  status.forced = forced_patches(status.guest, {});
  return status;
}

}  // namespace vpatch
