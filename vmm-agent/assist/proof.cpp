// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/proof.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "introspect/guest/livepatch_code.h"

namespace vpatch {
namespace {

using introspect::Activity;
using introspect::BlockReason;
using introspect::TaskStack;

bool is_pending(const introspect::Task& task, std::int32_t target) {
  return task.patch_pending && task.patch_state && *task.patch_state != target &&
         *task.patch_state >= 0;
}

/// PF_VCPU: the task is the vCPU of a guest within the guest, and runs it. The registers of its CPU
/// are then that inner guest's.
constexpr std::uint64_t kRunsAGuest = 1;

/// Whether what the task runs is known from the registers of its CPU.
bool has_registers(const TaskStack& stack) {
  return (stack.activity == Activity::in_kernel || stack.activity == Activity::in_user) &&
         (stack.task.flags & kRunsAGuest) == 0;
}

/// The idle task of a CPU that is not online counts as running for ever, and is in nobody's way.
bool is_offline(const introspect::Task& task, std::span<const introspect::Cpu> cpus) {
  const auto cpu =
      task.idle_of ? std::ranges::find(cpus, *task.idle_of, &introspect::Cpu::number) : cpus.end();
  return cpu != cpus.end() && !cpu->online;
}

std::string whom(const introspect::Task& task) {
  return fmt::format("{} ({})", task.name, task.tid);
}

/// What forbids to move any task.
std::string forbids_all(const PausedGuest& guest, const ExpectedTransition& expected) {
  const introspect::LivepatchState& now = guest.livepatch;
  if (!now.transition || now.patches[*now.transition].address != expected.patch ||
      now.target_state != expected.target_state) {
    return "another transition runs by now, or none";
  }
  if (now.busy()) {
    return "the kernel is at work on the transition";
  }
  if (guest.unsafe.empty()) {
    return "where the kernel's livepatch code lies is not known";
  }
  if (guest.look.incomplete) {
    return "the task list is incomplete: " + guest.look.why;
  }
  for (const TaskStack& stack : guest.look.tasks) {
    if (stack.task.on_cpu && !has_registers(stack) && !is_offline(stack.task, guest.look.cpus)) {
      return fmt::format("what {} runs is not known", whom(stack.task));
    }
    for (const introspect::Frame& frame : stack.trace.frames) {
      if (introspect::holds_any(guest.unsafe, frame.address)) {
        return whom(stack.task) + " runs livepatch or ftrace code";
      }
    }
  }
  return {};
}

}  // namespace

SwitchProof prove_switch(const PausedGuest& guest, const ExpectedTransition& expected) {
  SwitchProof proof;
  proof.why_none = forbids_all(guest, expected);
  if (!proof.why_none.empty()) {
    return proof;
  }
  auto forbidden = introspect::forbidden_now(guest.livepatch);
  if (forbidden.empty() || forbidden != guest.cold.functions) {
    proof.why_none = forbidden.empty() ? "which functions change is not known"
                                       : "other functions change than before the pause";
    return proof;
  }
  std::ranges::copy(guest.cold.parts, std::back_inserter(forbidden));
  std::vector<const introspect::Blocker*> blocks(guest.look.tasks.size());
  const auto blockers = introspect::find_blockers(guest.look.tasks, forbidden);
  for (const introspect::Blocker& blocker : blockers) {
    blocks[blocker.task] = &blocker;
  }
  for (std::size_t index = 0; index < guest.look.tasks.size(); ++index) {
    const TaskStack& stack = guest.look.tasks[index];
    if (!stack.task.on_cpu || !has_registers(stack) ||
        !is_pending(stack.task, expected.target_state)) {
      continue;
    }
    const introspect::Blocker* blocker = blocks[index];
    if (blocker != nullptr && blocker->reason == BlockReason::on_stack) {
      proof.refused.push_back({index, forbidden[blocker->function].name + " is on its stack"});
    } else if (!stack.trace.reliable()) {
      proof.refused.push_back({index, std::string(introspect::describe(stack.trace.unreliable))});
    } else {
      proof.tasks.push_back(index);
    }
  }
  return proof;
}

}  // namespace vpatch
