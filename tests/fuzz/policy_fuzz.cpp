// SPDX-License-Identifier: Apache-2.0
// The policy and the proof of assisted transitions, on any observation: no action outside of what
// is allowed, and above all nobody moved without a proof.
#include <cstdlib>

#include "introspect/guest/livepatch_code.h"
#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/assist/policy.h"
#include "vmm-agent/assist/proof.h"

namespace {

using namespace vpatch;
using introspect::Activity;
using introspect::BlockReason;
using introspect::GuestVirtAddr;
using introspect::VirtRange;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

bool take_bool(fuzz::Input& input) {
  return (input.take<std::uint8_t>() & 1U) != 0;
}

PendingView take_task(fuzz::Input& input) {
  PendingView task;
  task.kind = static_cast<TaskKind>(input.take<std::uint8_t>() % 3);
  task.on_cpu = take_bool(input);
  task.cpu = input.take<std::uint32_t>();
  if (take_bool(input)) {
    task.held = static_cast<BlockReason>(input.take<std::uint8_t>() % 5);
  }
  task.interruptible = take_bool(input);
  task.pending_for = milliseconds(input.take<std::uint16_t>());
  task.running_for = milliseconds(input.take<std::uint16_t>());
  task.kicks = input.take<std::uint8_t>();
  return task;
}

void check_policy(fuzz::Input& input) {
  const AssistOptions options{.mode = static_cast<AssistMode>(input.take<std::uint8_t>() % 3),
                              .signal_after = milliseconds(input.take<std::uint16_t>()),
                              .switch_after = milliseconds(input.take<std::uint16_t>()),
                              .max_pause = milliseconds(20)};
  Observation seen;
  seen.kernel_at_work = take_bool(input);
  seen.mailbox = take_bool(input);
  seen.outstanding = take_bool(input);
  seen.may_pause = take_bool(input);
  seen.next_pass_signals = take_bool(input);
  for (nanoseconds* time :
       {&seen.since_retry, &seen.since_resched, &seen.since_signal, &seen.since_pause}) {
    *time = take_bool(input) ? nanoseconds::max() : milliseconds(input.take<std::uint16_t>());
  }
  seen.retries = input.take<std::uint32_t>();
  seen.signals = input.take<std::uint32_t>();
  seen.pauses = input.take<std::uint32_t>();
  for (std::size_t left = input.take<std::uint8_t>() % 32; left > 0; --left) {
    seen.pending.push_back(take_task(input));
  }
  const Action action = decide(seen, options);
  if (action.act == Act::wait) {
    return;
  }
  require(options.mode != AssistMode::off && !seen.kernel_at_work);
  for (const std::size_t index : action.tasks) {
    require(index < seen.pending.size() && seen.pending[index].on_cpu);
  }
  if (action.act == Act::pause_and_switch) {
    require(options.mode == AssistMode::full && seen.may_pause && !action.tasks.empty());
    for (const std::size_t index : action.tasks) {
      require(seen.pending[index].kind != TaskKind::idle &&
              seen.pending[index].running_for >= options.switch_after);
    }
    return;
  }
  require(seen.mailbox && !seen.outstanding);
  if (action.act == Act::resched) {
    require(!action.cpus.empty() && std::ranges::is_sorted(action.cpus));
  } else {
    require(seen.since_retry >= kRetryGap);
  }
  if (action.act == Act::retry && seen.next_pass_signals) {
    require(std::ranges::none_of(seen.pending, [](const PendingView& task) {
      return task.on_cpu || task.held.has_value();
    }));
  }
  if (action.act == Act::signal) {
    require(std::ranges::any_of(seen.pending, [&](const PendingView& task) {
      return task.held && task.interruptible && !task.on_cpu &&
             task.pending_for >= options.signal_after;
    }));
  }
}

/// Few addresses, so that they meet: functions lie at multiples of 16, each 16 bytes long.
GuestVirtAddr take_address(fuzz::Input& input) {
  return GuestVirtAddr(0xffff'ffff'8100'0000U + input.take<std::uint8_t>());
}

introspect::LivepatchState take_livepatch(fuzz::Input& input) {
  introspect::LivepatchState state;
  for (std::size_t patches = input.take<std::uint8_t>() % 4; patches > 0; --patches) {
    introspect::LivePatch patch;
    patch.address = GuestVirtAddr(input.take<std::uint8_t>() % 4);
    introspect::PatchedObject object{"vmlinux", take_bool(input), {}};
    for (std::size_t functions = input.take<std::uint8_t>() % 4; functions > 0; --functions) {
      introspect::PatchedFunction function;
      function.address = GuestVirtAddr(input.take<std::uint8_t>() % 8);
      function.old_func = take_address(input);
      function.new_func = take_address(input);
      function.old_size = function.new_size = 16;
      function.patched = take_bool(input);
      object.functions.push_back(function);
    }
    patch.objects.push_back(object);
    state.patches.push_back(patch);
  }
  for (std::size_t stacks = input.take<std::uint8_t>() % 4; stacks > 0; --stacks) {
    introspect::FuncStack stack{take_address(input), {}};
    for (std::size_t entries = input.take<std::uint8_t>() % 3; entries > 0; --entries) {
      stack.functions.push_back(GuestVirtAddr(input.take<std::uint8_t>() % 8));
    }
    state.func_stacks.push_back(stack);
  }
  if (!state.patches.empty() && take_bool(input)) {
    state.transition = input.take<std::uint8_t>() % state.patches.size();
  }
  state.target_state = input.take<std::int8_t>() % 2;
  state.mutex_owner = GuestVirtAddr(input.take<std::uint8_t>() % 2);
  return state;
}

introspect::TaskStack take_stack(fuzz::Input& input) {
  introspect::TaskStack stack;
  stack.task.on_cpu = take_bool(input);
  stack.task.patch_pending = take_bool(input);
  if (take_bool(input)) {
    stack.task.patch_state = input.take<std::int8_t>() % 2;
  }
  stack.activity = static_cast<Activity>(input.take<std::uint8_t>() % 4);
  stack.trace.unreliable = static_cast<introspect::Unreliable>(input.take<std::uint8_t>() % 2);
  for (std::size_t frames = input.take<std::uint8_t>() % 4; frames > 0; --frames) {
    stack.trace.frames.push_back(
        {take_address(input), take_bool(input), introspect::StackKind::task});
  }
  return stack;
}

void check_proof(fuzz::Input& input) {
  const introspect::LivepatchState state = take_livepatch(input);
  introspect::Look look;
  look.incomplete = take_bool(input);
  for (std::size_t tasks = input.take<std::uint8_t>() % 8; tasks > 0; --tasks) {
    look.tasks.push_back(take_stack(input));
  }
  std::vector<VirtRange> unsafe;
  if (take_bool(input)) {
    unsafe.push_back(*VirtRange::make(take_address(input), 16));
  }
  const ExpectedTransition expected{GuestVirtAddr(input.take<std::uint8_t>() % 4),
                                    input.take<std::int8_t>() % 2};
  introspect::ColdParts cold{introspect::forbidden_now(state), {}};
  if (take_bool(input)) {
    cold.parts.push_back({"vmlinux", "f.cold", *VirtRange::make(take_address(input), 16)});
  }
  if (take_bool(input)) {
    cold.functions.clear();
  }
  const SwitchProof proof = prove_switch({look, state, unsafe, cold}, expected);
  if (proof.tasks.empty()) {
    return;
  }
  require(state.transition && state.patches[*state.transition].address == expected.patch);
  require(state.target_state == expected.target_state && !state.busy() && !look.incomplete);
  for (const introspect::TaskStack& stack : look.tasks) {
    for (const introspect::Frame& frame : stack.trace.frames) {
      require(!unsafe[0].holds(frame.address, 1));
    }
  }
  auto forbidden = introspect::forbidden_now(state);
  require(forbidden == cold.functions);
  forbidden.insert(forbidden.end(), cold.parts.begin(), cold.parts.end());
  for (const std::size_t index : proof.tasks) {
    const introspect::TaskStack& stack = look.tasks.at(index);
    require(stack.task.on_cpu && stack.task.patch_pending && stack.trace.reliable());
    require(stack.task.patch_state && *stack.task.patch_state != expected.target_state);
    require(stack.activity == Activity::in_kernel || stack.activity == Activity::in_user);
    for (const introspect::Frame& frame : stack.trace.frames) {
      for (const auto& function : forbidden) {
        require(!function.code.holds(frame.address, 1));
      }
    }
  }
}

}  // namespace

std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  Bytes zeros(64);
  Bytes ones(256, std::byte{1});
  Bytes mixed(512);
  for (std::size_t index = 0; index < mixed.size(); ++index) {
    mixed[index] = static_cast<std::byte>(index * 37 + index / 7);
  }
  return {zeros, ones, mixed};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::Input input(vpatch::fuzz::bytes_of(data, size));
  if ((input.take<std::uint8_t>() & 1U) != 0) {
    check_policy(input);
  } else {
    check_proof(input);
  }
  return 0;
}
