// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/ftrace.h"

#include <cstdint>
#include <utility>

#include "introspect/kernel/layout_probe.h"

namespace vpatch::introspect {

Result<FtraceLayout> FtraceLayout::probe(const Types& types, const SymbolAddresses& symbols) {
  LayoutProbe probe(types, symbols);
  FtraceLayout layout;
  layout.enabled = probe.symbol("ftrace_enabled");
  layout.disabled = probe.optional_symbol("ftrace_disabled");
  return std::move(probe).finish(layout);
}

Result<FtraceState> read_ftrace(const VirtualMemory& memory, const FtraceLayout& layout) {
  if (layout.disabled) {
    const auto dead = read_value<std::int32_t>(memory, *layout.disabled);
    if (!dead) {
      return std::unexpected(Error(dead.error()).in_context("read whether ftrace is shut down"));
    }
    if (*dead != 0) {
      return FtraceState::dead;
    }
  }
  const auto enabled = read_value<std::int32_t>(memory, layout.enabled);
  if (!enabled) {
    return std::unexpected(Error(enabled.error()).in_context("read whether ftrace is on"));
  }
  return *enabled != 0 ? FtraceState::on : FtraceState::off;
}

}  // namespace vpatch::introspect
