// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/health.h"

#include <algorithm>
#include <utility>

#include "introspect/kernel/layout_probe.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch::introspect {
namespace {

constexpr std::int64_t kNsPerSecond = 1'000'000'000;
/// PANIC_CPU_INVALID.
constexpr std::int32_t kNoCpu = -1;

/// The core timekeeper lies in a structure behind a sequence counter, which has a name, and so type
/// information, only from 6.13 on; and which is in an array of several from 6.17 on.
GuestVirtAddr probe_timekeeper(LayoutProbe& probe) {
  auto data = probe.optional_symbol("tk_core");
  if (!data) {
    data = probe.symbol("timekeeper_data");
  }
  if (const auto inside = probe.optional_offset("tk_data", "timekeeper")) {
    return member_at(*data, *inside);
  }
  constexpr std::uint64_t kAlignment = 8;
  const std::uint64_t counter = probe.size_of("seqcount_raw_spinlock");
  return member_at(*data, (counter + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

Result<HealthLayout> HealthLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  HealthLayout layout;
  layout.tainted_mask = probe.symbol("tainted_mask");
  layout.timekeeper = probe_timekeeper(probe);
  layout.ktime_sec = probe.offset("timekeeper", "ktime_sec");
  layout.xtime_sec = probe.offset("timekeeper", "xtime_sec");
  layout.offs_boot = probe.offset("timekeeper", "offs_boot");
  layout.panic_cpu = probe.optional_symbol("panic_cpu");
  layout.ticks = probe.optional_symbol("jiffies_64");
  return std::move(probe).finish(layout);
}

Result<Health> read_health(const VirtualMemory& memory, const HealthLayout& layout) {
  const auto taint = read_value<std::uint64_t>(memory, layout.tainted_mask);
  if (!taint) {
    return std::unexpected(Error(taint.error()).in_context("read the taint mask"));
  }
  const std::uint64_t end = std::max({layout.ktime_sec, layout.xtime_sec, layout.offs_boot}) + 8;
  const auto timekeeper =
      StructCopy::read(memory, layout.timekeeper, std::min(end, kMaxStructSize));
  if (!timekeeper) {
    return std::unexpected(Error(timekeeper.error()).in_context("read the timekeeper"));
  }
  const FieldView fields = timekeeper->fields();
  const auto asleep_ns = fields.get<std::int64_t>(layout.offs_boot);
  Health health;
  health.taint = *taint;
  // Time spent in suspend does not count in ktime_sec.
  health.uptime_s = fields.get<std::uint64_t>(layout.ktime_sec) +
                    static_cast<std::uint64_t>(std::max<std::int64_t>(asleep_ns, 0) / kNsPerSecond);
  health.realtime_s = fields.get<std::uint64_t>(layout.xtime_sec);
  if (layout.panic_cpu) {
    const auto cpu = read_value<std::int32_t>(memory, *layout.panic_cpu);
    if (!cpu) {
      return std::unexpected(Error(cpu.error()).in_context("read who panicked"));
    }
    health.panicked = *cpu != kNoCpu;
  }
  if (layout.ticks) {
    const auto ticks = read_value<std::uint64_t>(memory, *layout.ticks);
    if (!ticks) {
      return std::unexpected(Error(ticks.error()).in_context("read the ticks"));
    }
    health.ticks = *ticks;
  }
  return health;
}

}  // namespace vpatch::introspect
