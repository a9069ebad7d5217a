// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "introspect/kernel/livepatch.h"
#include "introspect/kernel/modules.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_state.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/guest/livepatch_log.h"

namespace vpatch {

/// The guest's state as its memory tells it: what observe() asks the guest agent for, without any
/// help of the guest.
struct MemoryState {
  GuestState guest;
  introspect::LivepatchState livepatch;  ///< empty where the kernel has none
  std::vector<introspect::Module> modules;
};

/// Reads it, several times where the guest changes it meanwhile.
Result<MemoryState> read_memory_state(GuestView& view);

/// What the kernel's log in the guest's memory tells of livepatches; empty where it cannot be read.
LivepatchLog read_livepatch_log(GuestView& view);

/// MODULE_VERSION of a module; empty when it has none, or it cannot be read.
std::string module_version(const introspect::GuestKernel& kernel, const introspect::Module& module);

}  // namespace vpatch
