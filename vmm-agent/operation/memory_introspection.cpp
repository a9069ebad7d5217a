// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/memory_introspection.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/health.h"
#include "introspect/kernel/kernel_log.h"
#include "introspect/kernel/livepatch.h"
#include "introspect/kernel/trouble.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/operation/leftovers.h"
#include "vmm-agent/operation/memory_facts.h"
#include "vmm-agent/operation/quiesce.h"
#include "vmm-agent/operation/status.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch {
namespace {

constexpr std::size_t kBlockersShown = 16;

void check_function(const introspect::GuestKernel& kernel, const introspect::LivepatchState& state,
                    const std::string& object, const introspect::PatchedFunction& function,
                    std::vector<std::string>& problems) {
  const std::string name = fmt::format("{}:{}", object, function.name);
  if (!function.patched) {
    problems.push_back(fmt::format("the kernel does not show {} as patched", name));
    return;
  }
  const auto stack =
      std::ranges::find(state.func_stacks, function.old_func, &introspect::FuncStack::old_func);
  if (stack == state.func_stacks.end() || stack->functions.empty() ||
      stack->functions.front() != function.address) {
    problems.push_back(fmt::format("another replacement of {} is in force", name));
    return;
  }
  const auto redirected = begins_with_call(kernel.memory(), function.old_func);
  if (!redirected) {
    problems.push_back(
        fmt::format("the code of {} cannot be read: {}", name, redirected.error().what));
  } else if (!*redirected) {
    problems.push_back(fmt::format("{} does not begin with a call of its replacement", name));
  }
}

Result<MemoryState> read_afresh(GuestView& view, const qmp::CallOptions& options) {
  if (auto fresh = view.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  return read_memory_state(view);
}

}  // namespace

Result<Leftovers> MemoryIntrospection::leftovers(const std::vector<std::string>& gone,
                                                 const std::vector<std::string>& unloaded,
                                                 const GuestMark& before,
                                                 const qmp::CallOptions& options) {
  const auto state = read_afresh(view_, options);
  if (!state) {
    return std::unexpected(state.error());
  }
  return find_leftovers(view_.kernel().memory(), *state, before.changed, gone, unloaded);
}

Result<std::vector<ForcedPatch>> MemoryIntrospection::forced(const qmp::CallOptions& options) {
  const auto state = read_afresh(view_, options);
  if (!state) {
    return std::unexpected(state.error());
  }
  return forced_patches(state->guest, read_livepatch_log(view_));
}

Result<std::vector<introspect::ForbiddenFunction>> MemoryIntrospection::locate(
    const std::vector<std::string>& functions, const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  return locate_functions(view_, functions);
}

Result<Forecast> MemoryIntrospection::occupants(
    const std::vector<introspect::ForbiddenFunction>& functions, const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  return find_occupants(view_, functions, options);
}

Result<PendingTasks> MemoryIntrospection::pending(const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  const auto status = read_status(view_, false, options);
  if (!status) {
    return std::unexpected(status.error());
  }
  return status->pending.value_or(PendingTasks());
}

GuestFacts MemoryIntrospection::facts(const LivepatchFile& file, const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return unknown_facts(fresh.error().what);
  }
  return read_guest_facts(view_, file);
}

Result<Forecast> MemoryIntrospection::forecast(const LivepatchFile& file,
                                               const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  auto report = read_stacks(
      view_, nullptr, {},
      {.task = {}, .blocking = &file, .paused = false, .scheduler_frames = false}, options);
  if (!report) {
    return std::unexpected(report.error());
  }
  Forecast forecast{.tasks = report->tasks_seen,
                    .blockers = {},
                    .running = report->running,
                    .unknown = std::move(report->unknown)};
  if (report->incomplete) {
    forecast.unknown.push_back("tasks that are missing from the list: " + report->why_incomplete);
  }
  for (NamedStack& stack : report->stacks) {
    ++forecast.blockers.count;
    if (stack.blocks && forecast.blockers.first.size() < kBlockersShown) {
      PendingTask task{.tid = stack.task.tid,
                       .name = stack.task.name,
                       .state = std::string(1, stack.task.state_letter()),
                       .stack = texts_of(std::move(stack.frames)),
                       .reason = std::string(introspect::to_string(*stack.blocks)),
                       .why = std::move(stack.why)};
      forecast.blockers.first.push_back(std::move(task));
    }
  }
  return forecast;
}

Result<GuestMark> MemoryIntrospection::mark(const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  const introspect::GuestKernel& kernel = view_.kernel();
  const auto& layouts = kernel.layouts();
  const auto health = layouts.health ? introspect::read_health(kernel.memory(), *layouts.health)
                                     : std::unexpected(layouts.health.error());
  if (!health) {
    return std::unexpected(from_introspect(health.error()));
  }
  const auto log = layouts.log ? introspect::read_kernel_log(kernel.memory(), *layouts.log, 0, 1)
                               : std::unexpected(layouts.log.error());
  if (!log) {
    return std::unexpected(from_introspect(log.error()));
  }
  GuestMark mark{.taint = health->taint, .log_sequence = log->next_sequence};
  if (layouts.livepatch) {
    const auto state = introspect::read_livepatch(kernel);
    if (!state) {
      return std::unexpected(from_introspect(state.error()));
    }
    mark.changed = changed_functions(*state);
  }
  return mark;
}

Result<std::vector<std::string>> MemoryIntrospection::problems(const std::string& patch_name,
                                                               const GuestMark& before,
                                                               const qmp::CallOptions& options) {
  if (auto fresh = view_.refresh(options); !fresh) {
    return std::unexpected(fresh.error());
  }
  auto state = read_memory_state(view_);
  if (!state) {
    return std::unexpected(state.error());
  }
  const introspect::GuestKernel& kernel = view_.kernel();
  std::vector<std::string> problems;
  const auto patch =
      std::ranges::find(state->livepatch.patches, patch_name, &introspect::LivePatch::name);
  if (patch == state->livepatch.patches.end() || !patch->enabled) {
    problems.emplace_back("guest memory does not show it in force");
  } else {
    for (const introspect::PatchedObject& object : patch->objects) {
      for (const introspect::PatchedFunction& function : object.functions) {
        if (object.patched) {
          check_function(kernel, state->livepatch, object.name, function, problems);
        }
      }
    }
  }
  if (const std::uint64_t fresh = state->guest.tainted & ~before.taint & ~kExpectedTaint;
      fresh != 0) {
    problems.push_back(fmt::format("the kernel is newly tainted ({})", taint_letters(fresh)));
  }
  const auto& layout = kernel.layouts().log;
  const auto log = layout
                       ? introspect::read_kernel_log(kernel.memory(), *layout, before.log_sequence)
                       : std::unexpected(layout.error());
  if (!log) {
    problems.push_back("the kernel log cannot be read: " + log.error().what);
    return problems;
  }
  for (const introspect::LogRecord& record : log->records) {
    // Facility 0 is the kernel; programs write to the log too.
    if (record.facility == 0 && introspect::is_trouble(record.text)) {
      problems.push_back("the kernel log tells of trouble: " + record.text);
      break;
    }
  }
  return problems;
}

}  // namespace vpatch
