// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "introspect/memory/address.h"
#include "qmp/channel.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"
#include "vmm-agent/guest/livepatch_log.h"
#include "vmm-agent/operation/guest_facts.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// Who would block a livepatch if it were loaded now.
struct Forecast {
  std::size_t tasks = 0;               ///< that were looked at
  PendingTasks blockers{};             ///< those that would hold the transition up
  std::size_t running = 0;             ///< those that run, and would move by themselves in a moment
  std::vector<std::string> unknown{};  ///< functions that could not be held against the stacks
};

/// A function that a livepatch changes.
struct ChangedFunction {
  std::string object;  ///< "vmlinux" or a module
  std::string name;
  introspect::GuestVirtAddr address;  ///< of the original
};

/// A moment in the guest's life, to hold a later one against.
struct GuestMark {
  std::uint64_t taint = 0;
  std::uint64_t log_sequence = 0;          ///< of the next record of its kernel log
  std::vector<ChangedFunction> changed{};  ///< by the livepatches in force
};

/// What livepatches that are gone have left behind.
struct Leftovers {
  std::vector<std::string> wrong{};  ///< that must not be: a patch still listed, a module, code
  std::vector<std::string>
      hooked{};              ///< "object:function": no livepatch changes it any more, yet
                             ///< something is hooked into its start, another tracer perhaps
  std::size_t restored = 0;  ///< functions that run their original code, without a hook
};

/// The guest as an apply sees it from outside, without the guest's help. The one implementation
/// reads guest memory; tests put a fake in its place.
class Introspection {
 public:
  Introspection() = default;
  Introspection(const Introspection&) = delete;
  Introspection& operator=(const Introspection&) = delete;
  virtual ~Introspection() = default;

  /// What preflight has to know before `file` is loaded. What cannot be read carries the reason.
  virtual GuestFacts facts(const LivepatchFile& file, const qmp::CallOptions& options) = 0;

  virtual Result<Forecast> forecast(const LivepatchFile& file, const qmp::CallOptions& options) = 0;
  virtual Result<GuestMark> mark(const qmp::CallOptions& options) = 0;

  /// What is not as it should be with the livepatch `patch` in force: it is not enabled, a function
  /// is not redirected to it, new taint, new trouble in the kernel log. Empty when all is proved
  /// well.
  virtual Result<std::vector<std::string>> problems(const std::string& patch,
                                                    const GuestMark& before,
                                                    const qmp::CallOptions& options) = 0;

  /// What the livepatches `gone`, in force at `before`, have left behind; `unloaded`: their modules
  /// that are to be gone.
  virtual Result<Leftovers> leftovers(const std::vector<std::string>& gone,
                                      const std::vector<std::string>& unloaded,
                                      const GuestMark& before, const qmp::CallOptions& options) = 0;

  /// All livepatches with a transition that was forced since the guest booted.
  virtual Result<std::vector<ForcedPatch>> forced(const qmp::CallOptions& options) = 0;

  /// Where the code of functions is that are named "function" or "module:function".
  /// Outcome::refused when a name is not known or stands for several.
  virtual Result<std::vector<introspect::ForbiddenFunction>> locate(
      const std::vector<std::string>& functions, const qmp::CallOptions& options) = 0;
  /// The tasks that have one of `functions` on their stack, or of which that cannot be ruled out.
  virtual Result<Forecast> occupants(const std::vector<introspect::ForbiddenFunction>& functions,
                                     const qmp::CallOptions& options) = 0;

  /// The tasks that the running transition waits for.
  virtual Result<PendingTasks> pending(const qmp::CallOptions& options) = 0;
};

}  // namespace vpatch
