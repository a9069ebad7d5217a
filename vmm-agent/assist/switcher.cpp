// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/switcher.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "introspect/kernel/struct_copy.h"
#include "vmm-agent/domain/pause.h"
#include "vmm-agent/guest/named_frames.h"

namespace vpatch {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::steady_clock;

class Switcher {
 public:
  Switcher(GuestView& view, Domain& domain, const SwitchRequest& request,
           const qmp::CallOptions& calls)
      : view_(view), domain_(domain), request_(request), calls_(calls) {}

  SwitchOutcome run(Guardian& guardian) {
    if (!look_before()) {
      return std::move(outcome_);
    }
    auto pause = Pause::take(domain_, guardian, calls_);
    if (!pause) {
      if (pause.error().outcome == Outcome::refused) {
        refuse(std::move(pause.error().what));
      } else {
        outcome_.failed = std::move(pause.error());
      }
      return std::move(outcome_);
    }
    if (!pause->ours()) {
      refuse("somebody else has paused the guest");
      return std::move(outcome_);
    }
    if (auto moved = move_tasks(*pause); !moved) {
      refuse(std::move(moved.error().what));
    }
    const auto lasted = pause->resume();
    if (lasted) {
      outcome_.pause = *lasted;
    } else {
      outcome_.failed = lasted.error();
    }
    name_stacks();
    if (wrote_ && pause->ran_on()) {
      outcome_.failed = ran_while_written();
    }
    return std::move(outcome_);
  }

 private:
  bool refuse(std::string why) {
    outcome_.refused.push_back(std::move(why));
    return false;
  }

  /// What can be done before the guest stands still; whether it is worth a pause.
  bool look_before() {
    const auto start = steady_clock::now();
    auto look = introspect::look_at_stacks(view_.kernel(), {});
    if (!look) {
      return refuse(look.error().what);
    }
    before_ = *std::move(look);
    const auto took = steady_clock::now() - start;
    if (took > request_.max_pause) {
      return refuse(fmt::format("a look at {} tasks takes {} ms, longer than a pause may",
                                before_.tasks.size(),
                                duration_cast<std::chrono::milliseconds>(took).count()));
    }
    const auto found = find_cold_parts();
    return found ? true : refuse(found.error().what);
  }

  Result<void> find_cold_parts() {
    const auto livepatch = introspect::read_livepatch(view_.kernel());
    if (!livepatch) {
      return std::unexpected(from_introspect(livepatch.error()));
    }
    const introspect::Symbolizer symbols(view_.kernel(), before_.modules);
    auto cold = introspect::cold_parts_of(symbols, introspect::forbidden_now(*livepatch));
    if (!cold) {
      return std::unexpected(from_introspect(cold.error()));
    }
    cold_ = *std::move(cold);
    return {};
  }

  /// Asks what only the hypervisor knows, each time for no longer than the pause may go on.
  Result<void> move_tasks(const Pause& pause) {
    auto calls = pause.calls_within(request_.max_pause, calls_);
    if (!calls) {
      return std::unexpected(std::move(calls.error()));
    }
    auto registers = view_.registers(*calls);
    if (!registers) {
      return std::unexpected(std::move(registers.error()));
    }
    auto look = introspect::look_at_stacks(
        view_.kernel(), {.vcpus = *registers, .paused = true, .wanted = {}, .before = &before_});
    if (!look) {
      return std::unexpected(from_introspect(look.error()));
    }
    now_ = *std::move(look);
    const auto livepatch = introspect::read_livepatch(view_.kernel());
    if (!livepatch) {
      return std::unexpected(from_introspect(livepatch.error()));
    }
    const SwitchProof proof =
        request_.prove({now_, *livepatch, request_.unsafe, cold_}, request_.expected);
    note(proof);
    if (proof.tasks.empty()) {
      return {};
    }
    if (auto still = stands_still(pause); !still) {
      return still;
    }
    for (const std::size_t task : proof.tasks) {
      if (pause.held_for() >= request_.max_pause) {
        refuse("the pause took too long");
        return {};
      }
      if (auto written = write(now_.tasks[task].task, pause); !written) {
        return written;
      }
      moved_.push_back(task);
    }
    return {};
  }

  /// That nobody else has begun to migrate the guest since it was paused, nor let it run.
  Result<void> stands_still(const Pause& pause) {
    auto calls = pause.calls_within(request_.max_pause, calls_);
    const auto migrating = calls ? domain_.migrating(*calls) : std::unexpected(calls.error());
    if (!migrating) {
      return std::unexpected(migrating.error());
    }
    if (*migrating) {
      return fail(Outcome::refused, "the guest is being migrated");
    }
    calls = pause.calls_within(request_.max_pause, calls_);
    const auto state = calls ? domain_.run_state(*calls) : std::unexpected(calls.error());
    if (!state) {
      return std::unexpected(state.error());
    }
    return *state == RunState::paused && !domain_.resumed_by_others()
               ? Result<void>()
               : fail(Outcome::refused, "somebody else has resumed the guest");
  }

  Error ran_while_written() const {
    std::string who;
    for (const SwitchedTask& task : outcome_.switched) {
      who += fmt::format(" {} ({})", task.name, task.tid);
    }
    return {
        Outcome::failed_needs_look,
        fmt::format("somebody else resumed the guest in the pause in which vpatch moved tasks{}; "
                    "these may run old and new code mixed: reboot the guest, or watch it closely",
                    who.empty() ? "" : ":" + who)};
  }

  void note(const SwitchProof& proof) {
    if (!proof.why_none.empty()) {
      refuse(proof.why_none);
    }
    for (const auto& [task, why] : proof.refused) {
      unmoved_.push_back(
          fmt::format("{} ({}): {}", now_.tasks[task].task.name, now_.tasks[task].task.tid, why));
    }
  }

  /// In the order of the kernel: a task whose flag is gone and whose state is not set yet is still
  /// pending to it. Wholly, or not at all.
  Result<void> write(const introspect::Task& task, const Pause& pause) {
    const introspect::TaskLayout& layout = view_.kernel().layouts().tasks;
    const auto flags_at = introspect::member_at(task.address, layout.thread_flags);
    const std::uint64_t flags = task.thread_flags & ~(std::uint64_t{1} << layout.patch_pending_bit);
    if (auto done = write_word(flags_at, flags, pause); !done) {
      return done;
    }
    auto done = write_word(introspect::member_at(task.address, layout.patch_state.value_or(0)),
                           request_.expected.target_state, pause);
    if (!done && pause.within_limit()) {
      static_cast<void>(write_word(flags_at, task.thread_flags, pause));
    }
    return done;
  }

  template <class Word>
  Result<void> write_word(introspect::GuestVirtAddr address, Word word, const Pause& pause) {
    if (!pause.within_limit()) {
      return fail(Outcome::refused, "the pause took too long");
    }
    wrote_ = true;
    return view_.write(address, std::as_bytes(std::span(&word, 1)));
  }

  void name_stacks() {
    const introspect::Symbolizer symbols(view_.kernel(), now_.modules);
    for (const std::size_t index : moved_) {
      const introspect::TaskStack& stack = now_.tasks[index];
      outcome_.switched.push_back({.tid = stack.task.tid,
                                   .name = stack.task.name,
                                   .stack = texts_of(name_frames(stack, symbols, true))});
    }
    std::ranges::move(unmoved_, std::back_inserter(outcome_.refused));
  }

  GuestView& view_;
  Domain& domain_;
  const SwitchRequest& request_;
  const qmp::CallOptions& calls_;
  introspect::Look before_;
  introspect::Look now_;
  introspect::ColdParts cold_;
  std::vector<std::size_t> moved_;
  std::vector<std::string> unmoved_;
  bool wrote_ = false;
  SwitchOutcome outcome_;
};

}  // namespace

SwitchOutcome pause_and_switch(GuestView& view, Domain& domain, Guardian& guardian,
                               const SwitchRequest& request, const qmp::CallOptions& calls) {
  return Switcher(view, domain, request, calls).run(guardian);
}

}  // namespace vpatch
