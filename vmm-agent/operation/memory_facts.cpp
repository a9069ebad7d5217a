// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/memory_facts.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "introspect/guest/symbolizer.h"
#include "introspect/kernel/kprobes.h"
#include "vmm-agent/guest/memory_state.h"

namespace vpatch {
namespace {

using introspect::GuestKernel;

/// Symbols of one name that are counted; the kernel itself has some hundred at most.
constexpr std::size_t kMaxPlaces = 4096;

PatchFacts facts_of(const GuestKernel& kernel, const introspect::LivePatch& patch,
                    std::span<const introspect::Module> modules) {
  PatchFacts facts{.name = patch.name, .version = {}};
  facts.replace = patch.replace;
  facts.forced = patch.forced;
  for (const introspect::KlpState& state : patch.states) {
    facts.states.push_back({.id = state.id, .version = state.version});
  }
  for (const introspect::PatchedObject& object : patch.objects) {
    facts.callbacks.pre_patch |= object.callbacks.pre_patch;
    facts.callbacks.post_patch |= object.callbacks.post_patch;
    facts.callbacks.pre_unpatch |= object.callbacks.pre_unpatch;
    facts.callbacks.post_unpatch |= object.callbacks.post_unpatch;
  }
  const auto module = std::ranges::find(modules, patch.module, &introspect::Module::address);
  if (module != modules.end()) {
    facts.version = module_version(kernel, *module);
  }
  return facts;
}

/// The names that the file uses, by object.
std::map<std::string_view, std::set<std::string_view>> names_of(const LivepatchFile& file) {
  std::map<std::string_view, std::set<std::string_view>> names;
  if (file.contents) {
    for (const PatchedObject& object : file.contents->objects) {
      for (const PatchedFunction& function : object.functions) {
        names[object.name].insert(function.name);
      }
    }
  }
  for (const NeededSymbol& symbol : file.symbols) {
    names[symbol.object].insert(symbol.name);
  }
  return names;
}

Known<std::vector<SymbolFacts>> read_symbols(const introspect::Symbolizer& symbolizer,
                                             const LivepatchFile& file) {
  std::vector<SymbolFacts> result;
  for (const auto& [object, set] : names_of(file)) {
    const std::vector<std::string_view> names(set.begin(), set.end());
    const auto found = symbolizer.all_named(object, names, kMaxPlaces);
    if (!found && found.error().code == introspect::Errc::not_found && object != "vmlinux") {
      continue;  // it is not loaded
    }
    if (!found) {
      return std::unexpected(fmt::format("{}: {}", object, found.error().what));
    }
    for (std::size_t at = 0; at < names.size(); ++at) {
      SymbolFacts& facts = result.emplace_back();
      facts.object = object;
      facts.name = names[at];
      for (const introspect::Symbol& symbol : (*found)[at]) {
        facts.places.push_back({.address = symbol.address.value(), .size = symbol.size});
      }
    }
  }
  return result;
}

Known<std::vector<ProbeFacts>> read_probes(const GuestKernel& kernel) {
  const auto& layout = kernel.layouts().kprobes;
  const auto probes =
      layout ? introspect::read_kprobes(kernel.memory(), *layout) : std::unexpected(layout.error());
  if (!probes) {
    return std::unexpected(probes.error().what);
  }
  std::vector<ProbeFacts> result;
  for (const introspect::Kprobe& probe : *probes) {
    result.push_back({.address = probe.address.value(),
                      .post_handler = probe.post_handler,
                      .by_ftrace = probe.by_ftrace,
                      .disabled = probe.disabled});
  }
  return result;
}

Known<introspect::FtraceState> read_ftrace(const GuestKernel& kernel) {
  const auto& layout = kernel.layouts().ftrace;
  const auto state =
      layout ? introspect::read_ftrace(kernel.memory(), *layout) : std::unexpected(layout.error());
  if (!state) {
    return std::unexpected(state.error().what);
  }
  return *state;
}

}  // namespace

GuestFacts read_guest_facts(GuestView& view, const LivepatchFile& file) {
  auto state = read_memory_state(view);
  if (!state) {
    return unknown_facts(state.error().what);
  }
  const GuestKernel& kernel = view.kernel();
  GuestFacts facts;
  if (const auto& layout = kernel.layouts().livepatch; !layout) {
    facts.patches = std::unexpected(layout.error().what);
  } else {
    for (const introspect::LivePatch& patch : state->livepatch.patches) {
      facts.patches->push_back(facts_of(kernel, patch, state->modules));
    }
  }
  const introspect::Symbolizer symbolizer(kernel, std::move(state->modules));
  facts.symbols = read_symbols(symbolizer, file);
  facts.probes = read_probes(kernel);
  facts.ftrace = read_ftrace(kernel);
  return facts;
}

}  // namespace vpatch
