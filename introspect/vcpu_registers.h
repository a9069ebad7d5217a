// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "introspect/memory/address.h"

namespace vpatch::introspect {

/// What a VMM says of one stopped or running vCPU; the registers that introspection needs.
struct VcpuRegisters {
  std::uint32_t index = 0;  ///< the VMM's number of it, from 0
  GuestVirtAddr rip, rsp;
  std::uint64_t rbp = 0, r10 = 0, r13 = 0, rdi = 0, rdx = 0;
  std::uint64_t rflags = 0;
  std::uint64_t cr3 = 0, cr4 = 0;
  std::uint64_t gs_base = 0, kernel_gs_base = 0;  ///< one of them is the per-CPU area of the kernel
  std::uint16_t cs = 0;
  bool halted = false;

  bool user_mode() const { return (cs & 3U) != 0; }

  friend bool operator==(const VcpuRegisters&, const VcpuRegisters&) = default;
};

}  // namespace vpatch::introspect
