// SPDX-License-Identifier: Apache-2.0
// All domains of a libvirt connection, those that do not run included, and their groups.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "qmp/channel.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/domain/domain_groups.h"
#include "vmm-agent/error.h"

namespace vpatch {

struct ListedDomain {
  std::string name;
  std::string identity;           ///< its UUID
  std::optional<RunState> state;  ///< none: libvirt does not tell
  std::string metadata;           ///< vpatch's element; empty when there is none
};

/// The options bound the call. Outcome::unreachable when libvirt does not answer.
Result<std::vector<ListedDomain>> list_libvirt_domains(const std::string& uri,
                                                       const qmp::CallOptions& options);

struct DomainGroups {
  std::string domain;
  std::string identity;
  std::vector<std::string> groups;
};

/// Changes the groups of the domain that `target` names, which need not run, and gives those that
/// it then has; a change of nothing only looks. They are written to its configuration and, where it
/// runs, to the running domain; a transient domain has the latter alone. Again does no harm.
/// Outcome::unreachable when there is no such domain or libvirt does not answer, Outcome::refused
/// for what changed() refuses, and when libvirt does not take it.
Result<DomainGroups> change_groups(const Target& target, const GroupChange& change,
                                   const qmp::CallOptions& options);

}  // namespace vpatch
