// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "introspect/guest/blockers.h"
#include "vmm-agent/guest/guest_view.h"
#include "vmm-agent/operation/introspection.h"

namespace vpatch {

/// Where the code in force is of functions named "function" (of the kernel) or "module:function",
/// with what the compiler has put elsewhere of them.
/// Outcome::refused for a name that is not known, or stands for several functions.
Result<std::vector<introspect::ForbiddenFunction>> locate_functions(
    GuestView& view, const std::vector<std::string>& functions);

/// Those of the looked-at tasks that have one of `functions` on their stack, or of which that
/// cannot be ruled out: the stack is not reliable, or the task runs in the kernel. Idle tasks that
/// run are believed to idle. The blockers' `frame` and `function` are as of find_blockers().
std::vector<introspect::Blocker> occupants_of(
    const std::vector<introspect::TaskStack>& tasks,
    const std::vector<introspect::ForbiddenFunction>& functions);

/// The same by one look at the guest, which runs on.
Result<Forecast> find_occupants(GuestView& view,
                                const std::vector<introspect::ForbiddenFunction>& functions,
                                const qmp::CallOptions& options);

}  // namespace vpatch
