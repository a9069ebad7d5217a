// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "introspect/guest/guest_kernel.h"
#include "introspect/symbols/kallsyms.h"

namespace vpatch::introspect {

/// The code of the core kernel that must be on no stack while somebody else than the kernel changes
/// a task's patch state: all of the livepatch core, and the code that ftrace enters when a patched
/// function is called. In rising order, none empty, none touching another. One pass over all
/// symbols, some milliseconds: to be asked for once a boot.
///
/// ftrace's generated trampolines have no symbols; a stack that holds one is unreliable anyhow.
///
/// Errc::not_found when klp_ftrace_handler or ftrace_caller is missing: then nothing is known of
/// the rest either.
Result<std::vector<VirtRange>> livepatch_code(const Kallsyms& symbols);

/// The same of a guest; errors of its kallsyms too.
Result<std::vector<VirtRange>> livepatch_code(const GuestKernel& kernel);

/// Whether any of `sorted`, in rising order and apart as from livepatch_code(), holds `address`.
bool holds_any(std::span<const VirtRange> sorted, GuestVirtAddr address);

}  // namespace vpatch::introspect
