// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm-agent/operation/preflight_checks.h"

namespace vpatch {
namespace {

constexpr std::size_t kCandidatesShown = 16;
constexpr std::size_t kProbesShown = 16;  ///< of one function

bool changes_function(const GuestPatch& patch, const std::string& object,
                      const std::string& entry) {
  return std::ranges::any_of(patch.objects, [&](const GuestPatchedObject& candidate) {
    return candidate.name == object &&
           std::ranges::find(candidate.functions, entry) != candidate.functions.end();
  });
}

Finding conflict(const std::string& function, const std::string& other, std::optional<bool> replace,
                 bool allowed) {
  Finding finding{Severity::error,
                  "function-conflict",
                  fmt::format("{} is already changed by {}", function, other),
                  "Use a cumulative (replace) patch, or insist with --allow-stacking.",
                  "R7",
                  std::string(kAllowStacking)};
  if (!replace) {
    finding.text += "; whether this patch replaces it cannot be told from the file";
  }
  if (!replace || allowed) {
    finding.severity = Severity::warning;
    finding.hint.clear();
  }
  return finding;
}

/// "1 at 0x..., 2 at 0x..."
std::string candidates(const SymbolFacts& symbol) {
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < std::min(symbol.places.size(), kCandidatesShown); ++at) {
    texts.push_back(fmt::format("{} at {:#x}", at + 1, symbol.places[at].address));
  }
  if (symbol.places.size() > kCandidatesShown) {
    texts.push_back(fmt::format("and {} more", symbol.places.size() - kCandidatesShown));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

/// The one place that the kernel would take; else an error, by the rule of
/// klp_find_object_symbol(): position 0 needs a unique name.
const SymbolFacts::Place* choose(const SymbolFacts& symbol, std::uint64_t position,
                                 Findings& findings) {
  const std::string name = fmt::format("{}:{}", symbol.object, symbol.name);
  const auto add = [&](std::string id, std::string text, std::string hint) {
    findings.push_back({Severity::error, std::move(id), std::move(text), std::move(hint), "R20"});
    return nullptr;
  };
  if (symbol.places.empty()) {
    return add("symbol-missing", fmt::format("{} is not in the guest", name),
               "Was the livepatch built for this kernel, and for this build of the module?");
  }
  if (position == 0 && symbol.places.size() > 1) {
    return add("symbol-ambiguous",
               fmt::format("{} is the name of {} symbols: {}", name, symbol.places.size(),
                           candidates(symbol)),
               "Say in the livepatch's source which one is meant (old_sympos).");
  }
  if (position > symbol.places.size()) {
    return add("symbol-position",
               fmt::format("there is no {} at position {}; positions: {}", name, position,
                           candidates(symbol)),
               "Correct old_sympos in the livepatch's source.");
  }
  return &symbol.places[position == 0 ? 0 : position - 1];
}

Finding probe_finding(const std::string& function, std::uint64_t offset, const ProbeFacts& probe) {
  const std::string where = fmt::format("a kprobe at {}+{:#x}", function, offset);
  if (probe.by_ftrace && probe.post_handler) {
    const bool armed = !probe.disabled;
    return {armed ? Severity::error : Severity::warning, "kprobe-conflict",
            fmt::format("{} has a post handler: ftrace lets either it or a livepatch take over "
                        "the function{}",
                        where, armed ? "" : "; it is disabled now"),
            armed ? "Remove the probe in the guest (perf, SystemTap, tracefs, a module)." : ""};
  }
  if (probe.by_ftrace) {
    return {Severity::note, "kprobe-kept", where + " goes on to see the calls of the function"};
  }
  return {Severity::warning, "kprobe-bypassed",
          where + " sees nothing once the function is replaced: it is in the old code"};
}

void check_probes(const std::string& function, const SymbolFacts::Place& place,
                  std::span<const ProbeFacts> probes, Findings& findings) {
  // Conflicts first: of many, only the first are listed.
  std::vector<Finding> found;
  for (const ProbeFacts& probe : probes) {
    const std::uint64_t offset = probe.address - place.address;  // wraps below it
    if (offset == 0 || offset < place.size) {
      found.push_back(probe_finding(function, offset, probe));
    }
  }
  std::ranges::stable_sort(found, std::ranges::greater(), &Finding::severity);
  if (found.size() > kProbesShown) {
    found[kProbesShown - 1].text += fmt::format("; and {} more", found.size() - kProbesShown);
    found.resize(kProbesShown);
  }
  std::ranges::move(found, std::back_inserter(findings));
}

void check_ftrace(const GuestFacts& facts, Findings& findings) {
  if (facts.ftrace == introspect::FtraceState::off) {
    findings.push_back({Severity::error, "ftrace-off",
                        "the function tracer, which redirects functions, is off in the guest",
                        "Turn it on in the guest: sysctl kernel.ftrace_enabled=1"});
  } else if (facts.ftrace == introspect::FtraceState::dead) {
    findings.push_back({Severity::error, "ftrace-dead",
                        "the guest's function tracer has shut down after an error of its own",
                        "Look for an ftrace warning in the guest's log (vpatch log); only a reboot "
                        "brings it back."});
  }
}

/// What could not be checked, once for each reason.
void note_unknown(const GuestFacts& facts, Findings& findings) {
  std::vector<std::pair<std::string, std::string>> unknown;  // reason, and what is not known
  const auto add = [&](const auto& fact, const char* what) {
    if (fact) {
      return;
    }
    const auto same =
        std::ranges::find(unknown, fact.error(), &std::pair<std::string, std::string>::first);
    if (same == unknown.end()) {
      unknown.emplace_back(fact.error(), what);
    } else {
      same->second += std::string(", ") + what;
    }
  };
  add(facts.patches, "states and callbacks in force");
  add(facts.symbols, "symbol positions");
  add(facts.probes, "kprobes");
  add(facts.ftrace, "whether ftrace is on");
  for (const auto& [why, what] : unknown) {
    findings.push_back({Severity::warning, "facts-unknown",
                        fmt::format("unknown: {}: {}", what, why),
                        "The kernel judges them when it loads the patch."});
  }
}

/// The guest's symbols by object and name.
class SymbolIndex {
 public:
  explicit SymbolIndex(const GuestFacts& facts) {
    if (facts.symbols) {
      for (const SymbolFacts& symbol : *facts.symbols) {
        symbols_.emplace(std::pair<std::string_view, std::string_view>(symbol.object, symbol.name),
                         &symbol);
      }
    }
  }

  /// Null when nothing is known of it.
  const SymbolFacts* find(std::string_view object, std::string_view name) const {
    const auto found = symbols_.find({object, name});
    return found == symbols_.end() ? nullptr : found->second;
  }

 private:
  std::map<std::pair<std::string_view, std::string_view>, const SymbolFacts*> symbols_;
};

}  // namespace

void check_conflicts(const LivepatchFile& file, const GuestState& guest,
                     const PreflightOptions& options, Findings& findings) {
  if (!file.contents || file.contents->replace == true) {
    return;
  }
  for (const GuestPatch& patch : guest.patches) {
    if (patch.name == file.name) {
      continue;
    }
    for (const PatchedObject& object : file.contents->objects) {
      for (const PatchedFunction& function : object.functions) {
        // As sysfs shows it, where a unique name has position 1.
        const std::string entry =
            fmt::format("{},{}", function.name, std::max<std::uint64_t>(function.position, 1));
        if (changes_function(patch, object.name, entry)) {
          findings.push_back(conflict(fmt::format("{}:{}", object.name, function.name), patch.name,
                                      file.contents->replace, options.allow_stacking));
        }
      }
    }
  }
}

void check_functions(const LivepatchFile& file, const GuestState& guest, const GuestFacts& facts,
                     Findings& findings) {
  check_ftrace(facts, findings);
  note_unknown(facts, findings);
  const SymbolIndex symbols(facts);
  for (const NeededSymbol& needed : file.symbols) {
    if (const SymbolFacts* symbol = symbols.find(needed.object, needed.name); symbol != nullptr) {
      choose(*symbol, needed.position, findings);
    }
  }
  if (!file.contents) {
    return;
  }
  for (const PatchedObject& object : file.contents->objects) {
    if (object.name != "vmlinux" && guest.find_module(object.name) == nullptr) {
      findings.push_back(
          {Severity::note, "target-not-loaded",
           fmt::format("module {} is not loaded; it is patched when it loads", object.name), "",
           "R6"});
      continue;
    }
    for (const PatchedFunction& function : object.functions) {
      const SymbolFacts* symbol = symbols.find(object.name, function.name);
      const auto* place =
          symbol == nullptr ? nullptr : choose(*symbol, function.position, findings);
      if (place != nullptr && facts.probes) {
        check_probes(fmt::format("{}:{}", object.name, function.name), *place, *facts.probes,
                     findings);
      }
    }
  }
}

}  // namespace vpatch
