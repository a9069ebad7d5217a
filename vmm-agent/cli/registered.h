// SPDX-License-Identifier: Apache-2.0
// Registered livepatches: from the journal to what an operation works with, and back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vmm-agent/cli/recorder.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/ensure.h"
#include "vmm-agent/patch/livepatch_file.h"

namespace vpatch {

struct Registered {
  Registration registration;
  LivepatchFile file;  ///< the journal's copy, checked to be what was registered
  std::optional<LastLoad> last;
};

/// The newest load of a registered livepatch.
Result<std::optional<LastLoad>> last_load(Journal& journal, const Registration& registration);

Result<Registered> read_registered(Journal& journal, const Registration& registration);

/// What an operation that began to load a livepatch did to the guest, by its events.
LastLoad judge_load(const StoredOperation& operation, const std::vector<StoredEvent>& events);

/// What is registered for the domain that `target` names, which need not run, or for all when it
/// names none. One that its hypervisor no longer has is found by the name or identity that it had.
Result<std::vector<Registration>> registrations_of(Journal& journal, const Target& target,
                                                   const qmp::CallOptions& options);

/// Registers a livepatch that is to be put in force when `ensure` next finds the domain running;
/// its guest is not touched. A cumulative one takes the place of those registered before it. Done
/// already where this very file is registered; else `recorder` begins an entry of its own.
/// Outcome::refused for a file that apply would refuse whatever the guest, and when the journal
/// does not take it.
Report register_file(Recorder& recorder, const Domain& domain, const std::string& connection,
                     const LivepatchFile& file, const std::string& path,
                     const PreflightOptions& rules);

// After an operation that has changed the guest. Each says what it did.

/// Registers the livepatch that is now in force in place of those it replaced. Whether the journal
/// took it.
bool keep_registered(Recorder& recorder, const Domain& domain, const std::string& connection,
                     const LivepatchFile& file, const std::string& path, const Report& report);
/// Warns where a livepatch that was not registered replaced one that is.
void warn_of_registered(Recorder& recorder, const Domain& domain, const LivepatchFile& file,
                        Report& report);
/// Takes back the registration of a livepatch that is out of force, or will be, by a revert.
void forget_registered(Recorder& recorder, const Domain& domain, Report& report);
/// Takes back those of all livepatches but the one that an operation went back to: `ensure` must
/// not bring them again.
void forget_others(Recorder& recorder, const Domain& domain, Report& report);

}  // namespace vpatch
