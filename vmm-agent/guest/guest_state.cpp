// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/guest_state.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "introspect/kernel/trouble.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxEntries = 4096;
constexpr std::size_t kMaxValue = 512;
constexpr std::size_t kMaxFrames = 64;

std::string printable(std::string_view text) {
  std::string result(text.substr(0, kMaxValue));
  std::ranges::replace_if(result, [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) {
    return std::nullopt;
  }
  return value;
}

/// Calls `use(key, value)` for each line "key<TAB>value".
template <class Use>
void for_each_entry(std::string_view text, const Use& use) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (const std::size_t tab = line.find('\t'); tab != std::string_view::npos) {
      use(line.substr(0, tab), line.substr(tab + 1));
    }
  }
}

template <class T>
void append_capped(std::vector<T>& list, T value) {
  if (list.size() < kMaxEntries) {
    list.push_back(std::move(value));
  }
}

/// "NAME SIZE REFERENCES USERS STATE ADDRESS" with the taint letters in parentheses at the end, if
/// any.
GuestModule parse_module(std::string_view line) {
  GuestModule result;
  const std::size_t name_end = line.find(' ');
  result.name = printable(line.substr(0, name_end));
  if (name_end != std::string_view::npos) {
    const std::string_view rest = line.substr(name_end + 1);
    if (const std::size_t size_end = rest.find(' '); size_end != std::string_view::npos) {
      result.references = number<std::uint32_t>(rest.substr(size_end + 1)).value_or(0);
    }
  }
  result.live = line.find(" Loading ") == std::string_view::npos &&
                line.find(" Unloading ") == std::string_view::npos;
  if (const std::size_t open = line.rfind('(');
      open != std::string_view::npos && line.ends_with(')')) {
    result.flags = printable(line.substr(open + 1, line.size() - open - 2));
  }
  return result;
}

void set_patch_field(GuestPatch& patch, std::string_view key, std::string_view value) {
  if (key == "enabled") {
    patch.enabled = value == "1";
  } else if (key == "transition") {
    patch.transition = value == "1";
  } else if (key == "replace") {
    patch.replace = value == "1";
  } else if (key == "stack_order") {
    patch.stack_order = number<std::uint32_t>(value);
  } else if (key == "object") {
    append_capped(patch.objects, GuestPatchedObject{printable(value), std::nullopt, {}});
  } else if (key == "patched" && !patch.objects.empty()) {
    patch.objects.back().patched = value == "1";
  } else if (key == "function" && !patch.objects.empty()) {
    append_capped(patch.objects.back().functions, printable(value));
  }
}

}  // namespace

std::string_view to_string(PatchPhase phase) {
  switch (phase) {
    case PatchPhase::patching:
      return "patching";
    case PatchPhase::patched:
      return "patched";
    case PatchPhase::unpatching:
      return "unpatching";
    case PatchPhase::unpatched:
      break;
  }
  return "unpatched";
}

bool is_waiting(const GuestPatch& patch, const GuestPatchedObject& object) {
  return object.patched == false && patch.phase() == PatchPhase::patched;
}

const GuestPatch* GuestState::find_patch(std::string_view name) const {
  const auto found = std::ranges::find(patches, name, &GuestPatch::name);
  return found == patches.end() ? nullptr : &*found;
}

const GuestModule* GuestState::find_module(std::string_view name) const {
  const auto found = std::ranges::find(modules, name, &GuestModule::name);
  return found == modules.end() ? nullptr : &*found;
}

const GuestPatch* GuestState::in_transition() const {
  const auto found =
      std::ranges::find_if(patches, [](const GuestPatch& patch) { return patch.transition; });
  return found == patches.end() ? nullptr : &*found;
}

GuestState parse_guest_state(std::string_view text) {
  GuestState state;
  for_each_entry(text, [&state](std::string_view key, std::string_view value) {
    if (key == "release") {
      state.release = printable(value);
    } else if (key == "boot_id") {
      state.boot_id = printable(value);
    } else if (key == "tainted") {
      state.tainted = number<std::uint64_t>(value).value_or(0);
    } else if (key == "uptime") {
      const double uptime = number<double>(value).value_or(0);
      state.uptime_seconds = std::isfinite(uptime) ? uptime : 0;  // JSON has no other numbers
    } else if (key == "livepatch") {
      state.has_livepatch = value == "1";
    } else if (key == "module") {
      append_capped(state.modules, parse_module(value));
    } else if (key == "patch") {
      GuestPatch patch;
      patch.name = printable(value);
      append_capped(state.patches, std::move(patch));
    } else if (key.starts_with("guest.")) {
      if (state.guest_module.size() < kMaxEntries) {
        state.guest_module.insert_or_assign(printable(key.substr(6)), printable(value));
      }
    } else if (!state.patches.empty()) {
      set_patch_field(state.patches.back(), key, value);
    }
  });
  return state;
}

PendingTasks parse_pending_tasks(std::string_view text) {
  PendingTasks result;
  for_each_entry(text, [&result](std::string_view key, std::string_view value) {
    if (key == "count") {
      result.count = number<std::size_t>(value).value_or(0);
    } else if (key == "task") {
      PendingTask task;
      task.tid = number<std::uint32_t>(value).value_or(0);
      append_capped(result.first, std::move(task));
    } else if (result.first.empty()) {
      return;
    } else if (key == "comm") {
      result.first.back().name = printable(value);
    } else if (key == "state") {
      result.first.back().state = printable(value);
    } else if (key == "frame" && result.first.back().stack.size() < kMaxFrames) {
      // "[<0>] function+0x1/0x2 [module]"
      const std::size_t address_end =
          value.starts_with("[<") ? value.find("] ") : std::string_view::npos;
      result.first.back().stack.push_back(
          printable(address_end == std::string_view::npos ? value : value.substr(address_end + 2)));
    }
  });
  result.count = std::max(result.count, result.first.size());
  return result;
}

std::string taint_letters(std::uint64_t mask) {
  static constexpr std::string_view kLetters =
      "PFSRMBUDAWCIOELKXTN";  // include/linux/panic.h, bit 0 first
  std::string result;
  for (std::size_t bit = 0; bit < 64; ++bit) {
    if ((mask >> bit & 1U) != 0) {
      result += bit < kLetters.size() ? kLetters[bit] : '?';
    }
  }
  return result;
}

std::vector<std::string> trouble_in_log(const std::vector<std::string>& lines) {
  std::vector<std::string> result;
  std::ranges::copy_if(lines, std::back_inserter(result),
                       [](const std::string& line) { return introspect::is_trouble(line); });
  return result;
}

std::string describe(const PendingTask& task) {
  std::string text =
      fmt::format("{} ({}{}{})", task.name, task.tid, task.state.empty() ? "" : ", ", task.state);
  if (!task.why.empty()) {
    text += ": " + task.why;
  } else if (!task.stack.empty()) {
    text += " in " + task.stack.front();
  }
  return text;
}

}  // namespace vpatch
