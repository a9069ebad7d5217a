// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "vmm-agent/assist/switcher.h"
#include "vmm-agent/domain/libvirt_domains.h"
#include "vmm-agent/journal/journal.h"
#include "vmm-agent/operation/doctor.h"
#include "vmm-agent/operation/health_verdict.h"
#include "vmm-agent/operation/kernel_log.h"
#include "vmm-agent/operation/status.h"
#include "vmm-agent/operation/task_stacks.h"

namespace vpatch {

// What each verb prints with --json, described field by field in docs/json.md. Fields are added,
// never renamed or removed, within one value of "schema".

boost::json::object to_json(const Finding& finding);
boost::json::object to_json(const PendingTasks& pending);
boost::json::object to_json(const SwitchOutcome& outcome, const std::string& patch);
boost::json::object to_json(const LivepatchFile& file, const SignatureCheck& signature);
boost::json::object to_json(const Status& status, const std::string& domain);
boost::json::object to_json(const StacksReport& report, const std::string& domain);
boost::json::object to_json(const introspect::KernelLog& log, const std::string& domain);
boost::json::object to_json(const std::vector<Check>& checks);
boost::json::object to_json(const HealthReport& report, const std::string& domain);
boost::json::object to_json(const Report& report, const std::string& verb,
                            const std::string& domain);
boost::json::object to_json(const Error& error, const std::string& verb);
boost::json::object to_json(const std::vector<Registration>& registrations);
boost::json::object to_json(const DomainGroups& groups);

}  // namespace vpatch
