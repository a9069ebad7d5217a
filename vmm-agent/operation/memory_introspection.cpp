// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/memory_introspection.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/health.h"
#include "introspect/kernel/kernel_log.h"
#include "introspect/kernel/livepatch.h"
#include "introspect/kernel/trouble.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch {
namespace {

using introspect::GuestVirtAddr;

constexpr std::size_t kBlockersShown = 16;

/// Whether the function at `address` begins with the call that ftrace puts there while it is
/// patched, where a 5-byte nop is otherwise: at its start, or after the 4 bytes of its endbr64,
/// which the kernel makes a nop too in functions whose address nobody takes.
introspect::Result<bool> is_redirected(const introspect::VirtualMemory& memory,
                                       GuestVirtAddr address) {
  constexpr std::byte kCall{0xe8};
  std::array<std::byte, 5> code{};
  if (auto done = memory.read(address, code); !done) {
    return std::unexpected(std::move(done).error());
  }
  // A nop at the start ends in a byte that is no call either.
  return code.front() == kCall || code.back() == kCall;
}

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
  const auto redirected = is_redirected(kernel.memory(), function.old_func);
  if (!redirected) {
    problems.push_back(
        fmt::format("the code of {} cannot be read: {}", name, redirected.error().what));
  } else if (!*redirected) {
    problems.push_back(fmt::format("{} does not begin with a call of its replacement", name));
  }
}

}  // namespace

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
  return GuestMark{.taint = health->taint, .log_sequence = log->next_sequence};
}

Result<std::vector<std::string>> MemoryIntrospection::problems(const LivepatchFile& file,
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
      std::ranges::find(state->livepatch.patches, file.name, &introspect::LivePatch::name);
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
