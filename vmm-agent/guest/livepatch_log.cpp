// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/livepatch_log.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::size_t kMaxKept = 256;  ///< of each kind: the guest writes the log
constexpr std::string_view kMark = "livepatch: ";

template <class T>
void add_once(std::vector<T>& list, T value) {
  if (list.size() < kMaxKept && std::ranges::find(list, value) == list.end()) {
    list.push_back(std::move(value));
  }
}

/// What stands between `before` and `after` at the start of `text`.
std::optional<std::string> between(std::string_view text, std::string_view before,
                                   std::string_view after) {
  if (!text.starts_with(before)) {
    return std::nullopt;
  }
  text.remove_prefix(before.size());
  const std::size_t end = text.find(after);
  return end == std::string_view::npos ? std::nullopt
                                       : std::optional(std::string(text.substr(0, end)));
}

}  // namespace

std::string_view to_string(ForcedSign sign) {
  switch (sign) {
    case ForcedSign::marked:
      return "marked";
    case ForcedSign::kept_module:
      return "kept-module";
    case ForcedSign::log:
      break;
  }
  return "log";
}

LivepatchLog parse_livepatch_log(std::span<const std::string> lines) {
  LivepatchLog log;
  std::string in_transition;
  for (const std::string& line : lines) {
    const std::size_t mark = line.find(kMark);
    if (mark == std::string::npos) {
      continue;
    }
    const std::string_view text = std::string_view(line).substr(mark + kMark.size());
    if (auto name = between(text, "'", "': starting ")) {
      in_transition = *std::move(name);
    } else if (text.starts_with("forcing remaining tasks")) {
      add_once(log.forced, in_transition);
    } else if (auto patch = between(text, "patch '", "' failed for module '")) {
      const std::string_view rest =
          text.substr(std::string_view("patch ''").size() + patch->size());
      if (auto module = between(rest, " failed for module '", "', refusing")) {
        add_once(log.refused, RefusedModule{*std::move(patch), *std::move(module)});
      }
    }
  }
  return log;
}

std::vector<ForcedPatch> forced_patches(const GuestState& guest, const LivepatchLog& log) {
  std::vector<ForcedPatch> forced;
  const auto add = [&forced](const std::string& patch, ForcedSign sign) {
    if (std::ranges::find(forced, patch, &ForcedPatch::patch) == forced.end()) {
      forced.push_back({patch, sign});
    }
  };
  for (const GuestPatch& patch : guest.patches) {
    if (patch.forced) {
      add(patch.name, ForcedSign::marked);
    }
  }
  for (const GuestModule& module : guest.modules) {
    if (module.is_livepatch() && module.live && module.references > 0 &&
        guest.find_patch(module.name) == nullptr) {
      add(module.name, ForcedSign::kept_module);
    }
  }
  for (const std::string& patch : log.forced) {
    add(patch, ForcedSign::log);
  }
  return forced;
}

std::string describe(const ForcedPatch& forced) {
  const std::string patch = forced.patch.empty() ? "a livepatch" : forced.patch;
  switch (forced.sign) {
    case ForcedSign::marked:
      return fmt::format("the transition of {} was forced", patch);
    case ForcedSign::kept_module:
      return fmt::format("the transition that removed {} was forced: the kernel keeps its module",
                         patch);
    case ForcedSign::log:
      break;
  }
  return fmt::format("the transition of {} was forced, by the kernel's log", patch);
}

}  // namespace vpatch
