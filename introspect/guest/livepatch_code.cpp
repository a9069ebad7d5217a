// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/livepatch_code.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

/// What the names begin with; compilers add endings such as ".part.0" and ".cold". Of ftrace: what
/// arch/x86/kernel/ftrace_64.S has from __fentry__ on, labels included, and the functions that it
/// calls to find the right handler.
constexpr auto kPrefixes = std::to_array<std::string_view>(
    {"klp_", "__klp_", "__fentry__", "ftrace_caller", "ftrace_call", "ftrace_regs_caller",
     "ftrace_regs_call", "ftrace_graph_call", "ftrace_epilogue", "ftrace_stub",
     "ftrace_ops_list_func", "arch_ftrace_ops_list_func", "ftrace_ops_assist_func"});

/// Without these the kernel has no livepatch, or its symbols are not what they seem.
constexpr auto kNeeded = std::to_array<std::string_view>({"klp_ftrace_handler", "ftrace_caller"});

bool wanted(const Symbol& symbol) {
  return (symbol.type == 't' || symbol.type == 'T') && symbol.size != 0 &&
         std::ranges::any_of(
             kPrefixes, [&](std::string_view prefix) { return symbol.name.starts_with(prefix); });
}

}  // namespace

Result<std::vector<VirtRange>> livepatch_code(const Kallsyms& symbols) {
  std::vector<VirtRange> code;
  std::array<bool, kNeeded.size()> seen{};
  for (std::size_t index = 0; index < symbols.size(); ++index) {
    const Symbol symbol = symbols.symbol(index);
    const auto range = VirtRange::make(symbol.address, symbol.size);
    if (!range || !wanted(symbol)) {
      continue;
    }
    for (std::size_t name = 0; name < kNeeded.size(); ++name) {
      seen[name] = seen[name] || symbol.name == kNeeded[name];
    }
    // They come in rising order; several names of one place have its whole size each.
    if (!code.empty() && range->start() <= code.back().end()) {
      code.back() =
          VirtRange::between(code.back().start(), std::max(code.back().end(), range->end()));
    } else {
      code.push_back(*range);
    }
  }
  for (std::size_t name = 0; name < kNeeded.size(); ++name) {
    if (!seen[name]) {
      return fail(Errc::not_found,
                  fmt::format("the guest's kernel has no function {}", kNeeded[name]));
    }
  }
  return code;
}

Result<std::vector<VirtRange>> livepatch_code(const GuestKernel& kernel) {
  const auto symbols = kernel.names().kallsyms();
  if (!symbols) {
    return std::unexpected(symbols.error());
  }
  return livepatch_code(symbols->get());
}

bool holds_any(std::span<const VirtRange> sorted, GuestVirtAddr address) {
  const auto after = std::ranges::upper_bound(sorted, address, {}, &VirtRange::start);
  return after != sorted.begin() && std::prev(after)->holds(address, 1);
}

}  // namespace vpatch::introspect
