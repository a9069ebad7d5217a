// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "introspect/vcpu_registers.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// The vCPUs of the monitor's `info registers -a`, in its order; at most 8192 of them. A vCPU whose
/// text lacks a register is left out. One in 32-bit code has no r10 and r13, which stay 0. The text
/// never has kernel_gs_base: where a vCPU is in user mode, nothing here leads to its per-CPU area.
std::vector<introspect::VcpuRegisters> parse_registers(std::string_view text);

/// Asks the monitor once for all vCPUs. In a running VM they are not of one instant.
/// Outcome::unreachable when it does not answer or names no vCPU.
Result<std::vector<introspect::VcpuRegisters>> read_registers(Domain& domain,
                                                              const qmp::CallOptions& options);

}  // namespace vpatch
