// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/domain/domain.h"

namespace vpatch {

/// What one check came to. `failed` stands in the way of an apply; `warning` costs something but
/// stops nothing.
enum class Health : std::uint8_t { ok, warning, failed };

std::string_view to_string(Health health);

struct Check {
  std::string id;  ///< stable, for scripts: "libvirt", "kvm", "domain", "memory", "agent", ...
  Health health = Health::ok;
  std::string text;
  std::string hint{};  ///< what to do; empty when the check is ok
};

/// Can this host run VMs with hardware acceleration? /dev/kvm that opens proves nothing: a VM and a
/// vCPU are made.
Check check_kvm();

/// Everything about one VM, from the hypervisor inwards; stops at the first step that the later
/// ones need. Without a domain in `target` only the host is looked at.
std::vector<Check> diagnose(const Target& target, const qmp::CallOptions& options);

}  // namespace vpatch
