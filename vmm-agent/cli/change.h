// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "vmm-agent/cli/program.h"
#include "vmm-agent/cli/recorder.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/context.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

/// How the journal's entry of an operation with that file begins.
OperationStart entry_of(const std::string& verb, const LivepatchFile& file);

/// Attaches, takes the domain's lock and runs `operation`, with an entry in the journal that begins
/// as `entry` says, unless it is a dry run. `keep` then brings the domain's registrations up to
/// date. Prints what came of it.
Outcome change(Program& program, OperationStart entry, const std::string& what,
               const std::function<Report(Context&)>& operation,
               const std::function<void(Recorder&, const Domain&, Report&)>& keep = {});

}  // namespace vpatch
