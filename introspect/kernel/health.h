// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "introspect/memory/virtual_memory.h"
#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// How the guest's kernel fares.
struct Health {
  std::uint64_t taint = 0;       ///< the taint mask, as /proc/sys/kernel/tainted
  std::uint64_t uptime_s = 0;    ///< as /proc/uptime, to the last tick, in whole seconds
  std::uint64_t realtime_s = 0;  ///< the guest's wall clock, seconds of the epoch
  bool panicked = false;         ///< a CPU has called panic()
  /// jiffies_64, where the kernel shows it. Stands still while all CPUs of a guest sleep.
  std::optional<std::uint64_t> ticks{};
};

/// Where the kernel keeps that; probed once a boot.
struct HealthLayout {
  GuestVirtAddr tainted_mask;
  GuestVirtAddr timekeeper;                                   ///< of the core timekeeper
  std::uint64_t ktime_sec = 0, xtime_sec = 0, offs_boot = 0;  ///< in struct timekeeper
  std::optional<GuestVirtAddr> panic_cpu;
  std::optional<GuestVirtAddr> ticks{};

  static Result<HealthLayout> probe(const Types& types, const SymbolAddresses& symbols);
};

Result<Health> read_health(const VirtualMemory& memory, const HealthLayout& layout);

}  // namespace vpatch::introspect
