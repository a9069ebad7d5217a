// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "qmp/channel.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/operation/context.h"
#include "vmm-agent/operation/health_verdict.h"

namespace vpatch {

struct HealthOptions {
  HealthSince since{};
  std::vector<std::string> command{};  ///< a program of the guest and its arguments; may be empty
  std::chrono::milliseconds command_timeout{30'000};
};

/// Looks whether the guest is healthy: first from outside, by the hypervisor and guest memory, then
/// through its agent. Changes nothing and needs no lock. What cannot be looked at is a finding too.
HealthReport check_health(Domain& domain, const BootCache& cache, const HealthOptions& options,
                          Clock& clock, const qmp::CallOptions& calls);

/// The agent's part of it: whether it answers, the boot id where that is not known, and the
/// command.
void ask_agent(qmp::Channel& channel, const HealthOptions& options, Clock& clock,
               const qmp::CallOptions& calls, HealthSigns& signs);

/// The report of a domain that could not be opened.
HealthReport unreachable_health(const std::string& name, const Error& error,
                                const HealthOptions& options);

}  // namespace vpatch
