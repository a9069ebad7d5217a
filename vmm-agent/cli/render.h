// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "vmm-agent/cli/terminal.h"
#include "vmm-agent/domain/libvirt_domains.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/doctor.h"
#include "vmm-agent/operation/force.h"
#include "vmm-agent/operation/health_verdict.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/status.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch {

// What each verb prints for people. The texts end with a newline.

std::string render(const LivepatchFile& file, const SignatureCheck& signature);
std::string render(const Status& status, const std::string& domain, const Style& style);
std::string render(const StacksReport& report, const Style& style, bool against_patch);
std::string render(const introspect::KernelLog& log, const Style& style);
std::string render(const std::vector<Check>& checks, const Style& style);
std::string render(const ForceQuestion& question, const Style& style);
std::string render(const HealthReport& report, const Style& style);
std::string render(const Report& report, const Style& style, bool verbose);
std::string render(const Error& error, const Style& style);
std::string render(const std::vector<Registration>& registrations);
std::string render(const DomainGroups& groups);

}  // namespace vpatch
