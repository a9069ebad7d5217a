// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/quiesce.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "introspect/guest/cold_parts.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"
#include "vmm-agent/guest/memory_state.h"
#include "vmm-agent/guest/named_frames.h"

namespace vpatch {
namespace {

using introspect::Blocker;
using introspect::BlockReason;
using introspect::ForbiddenFunction;
using introspect::TaskStack;

constexpr std::size_t kShown = 16;

introspect::FunctionToChange parse_function(const std::string& text) {
  const std::size_t colon = text.find(':');
  return colon == std::string::npos
             ? introspect::FunctionToChange{"vmlinux", text}
             : introspect::FunctionToChange{text.substr(0, colon), text.substr(colon + 1)};
}

std::string why(const Blocker& blocker, const TaskStack& stack,
                const std::vector<ForbiddenFunction>& functions) {
  if (blocker.holds()) {
    return describe(blocker, stack, functions);
  }
  return "it runs in the kernel, and where cannot be told";
}

}  // namespace

Result<std::vector<ForbiddenFunction>> locate_functions(GuestView& view,
                                                        const std::vector<std::string>& functions) {
  auto state = read_memory_state(view);
  if (!state) {
    return std::unexpected(state.error());
  }
  const introspect::Symbolizer symbols(view.kernel(), std::move(state->modules));
  const auto named = [&symbols](std::string_view object, std::string_view name) {
    return symbols.named(object, name);
  };
  std::vector<ForbiddenFunction> found;
  for (const std::string& text : functions) {
    const introspect::FunctionToChange function = parse_function(text);
    auto located =
        introspect::predict_forbidden(named, state->livepatch, std::span(&function, 1), false);
    if (located.forbidden.size() != 1) {
      return fail(Outcome::refused,
                  fmt::format("--quiesce {}: {}", text,
                              located.unknown.empty()
                                  ? fmt::format("module {} is not loaded", function.object)
                                  : located.unknown.front()),
                  "Name functions as the guest's /proc/kallsyms does; one of a module as "
                  "MODULE:FUNCTION.");
    }
    found.push_back(std::move(located.forbidden.front()));
  }
  auto cold = introspect::cold_parts_of(symbols, found);
  if (!cold) {
    return std::unexpected(
        from_introspect(std::move(cold.error()).in_context("find the functions' cold parts")));
  }
  std::ranges::move(cold->parts, std::back_inserter(found));
  return found;
}

std::vector<Blocker> occupants_of(const std::vector<TaskStack>& tasks,
                                  const std::vector<ForbiddenFunction>& functions) {
  auto occupants = introspect::find_blockers(tasks, functions);
  std::erase_if(occupants, [&tasks](const Blocker& one) {
    const TaskStack& stack = tasks[one.task];
    return !one.holds() && (one.reason == BlockReason::in_user || stack.task.idle_of);
  });
  return occupants;
}

Result<Forecast> find_occupants(GuestView& view, const std::vector<ForbiddenFunction>& functions,
                                const qmp::CallOptions& options) {
  const auto registers = view.registers(options);
  if (!registers) {
    return std::unexpected(registers.error());
  }
  auto look = introspect::look_at_stacks(
      view.kernel(), {.vcpus = *registers, .paused = view.is_still(), .wanted = {}});
  if (!look) {
    return std::unexpected(from_introspect(look.error()));
  }
  if (look->incomplete) {
    return fail(Outcome::unreachable, "tasks are missing from the list: " + look->why);
  }
  const introspect::Symbolizer symbols(view.kernel(), look->modules);
  Forecast forecast{.tasks = look->tasks.size()};
  for (const Blocker& one : occupants_of(look->tasks, functions)) {
    const TaskStack& stack = look->tasks[one.task];
    ++forecast.blockers.count;
    if (forecast.blockers.first.size() < kShown) {
      forecast.blockers.first.push_back({.tid = stack.task.tid,
                                         .name = stack.task.name,
                                         .state = std::string(1, stack.task.state_letter()),
                                         .stack = texts_of(name_frames(stack, symbols, false)),
                                         .reason = std::string(introspect::to_string(one.reason)),
                                         .why = why(one, stack, functions)});
    }
  }
  return forecast;
}

}  // namespace vpatch
