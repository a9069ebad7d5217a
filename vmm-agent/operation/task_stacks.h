// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/guest/stack_walk.h"
#include "introspect/guest/symbolizer.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/guest/named_frames.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// The longest that a look may pause a VM: past it the guardian resumes it.
inline constexpr std::chrono::milliseconds kLookPause{1000};

/// One task with its stack, ready to be shown.
struct NamedStack {
  introspect::Task task;
  introspect::Activity activity{};
  introspect::Unreliable unreliable{};
  std::optional<std::uint32_t> vcpu;
  std::vector<NamedFrame> frames;  ///< innermost first
  /// With a patch to hold it against: why the task would block it.
  std::optional<introspect::BlockReason> blocks;
  std::string why;  ///< the same for people; empty when it would not
};

struct StacksOptions {
  std::string task;                         ///< a thread id or a name; all when empty
  const LivepatchFile* blocking = nullptr;  ///< only tasks that would block this patch
  bool paused = false;                      ///< stop all vCPUs while looking
  bool scheduler_frames = false;  ///< show the scheduler's own frames, as /proc/PID/stack does not
};

/// What `vpatch stacks` found.
struct StacksReport {
  std::string release;
  std::size_t tasks_seen = 0;
  std::vector<NamedStack> stacks;
  /// With a patch: tasks that run, and move by themselves when they leave the kernel or enter it.
  std::size_t running = 0;
  std::vector<std::string>
      unknown;              ///< functions of the patch that could not be held against stacks
  bool incomplete = false;  ///< the task list was torn
  std::string why_incomplete;
  std::chrono::microseconds look{0};               ///< how long looking took
  std::optional<std::chrono::microseconds> pause;  ///< how long the guest was paused
};

/// Looks at stacks, from outside, on a running guest or in one pause. Only --paused needs `domain`
/// and `target`; a core file has neither.
Result<StacksReport> read_stacks(GuestView& view, Domain* domain, const Target& target,
                                 const StacksOptions& options, const qmp::CallOptions& calls);

/// The functions that a livepatch file changes; empty when its contents are unknown.
std::vector<introspect::FunctionToChange> functions_of(const LivepatchFile& file);

}  // namespace vpatch
