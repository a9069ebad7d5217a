// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/mutation/overlay_memory.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch::mutation {

/// One thing that vpatch's commands do with a guest; whether it came to an answer rather than an
/// error.
struct Look {
  std::string name;
  std::function<bool(GuestView&)> run;
  bool slow = false;  ///< better not made at every guest
};

/// What every command does that only reads: status, stacks, log, the looks of apply, module types.
/// Answers are made into text where the commands do so.
std::vector<Look> all_looks();

/// A livepatch of functions that are in the guest, for the looks that hold one against it. To find
/// those of the kernel takes a while.
LivepatchFile sample_patch(bool kernel_functions);

/// The view of an overlay, which must outlive it. With `known_only` its kernel is not looked for
/// anew where `known` does not hold.
Result<GuestView> view_of(OverlayMemory& memory,
                          const std::vector<introspect::VcpuRegisters>& registers,
                          std::optional<introspect::BootFacts> known, bool known_only = false);

}  // namespace vpatch::mutation
