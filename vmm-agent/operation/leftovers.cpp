// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/leftovers.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include <fmt/format.h>

namespace vpatch {
namespace {

using introspect::FuncStack;
using introspect::GuestVirtAddr;

bool names(std::span<const std::string> list, const std::string& name) {
  return std::ranges::find(list, name) != list.end();
}

/// Whether the code at `address` is still that of the object it was seen in: a module may have been
/// unloaded meanwhile, and another may lie there.
bool still_there(const MemoryState& state, const ChangedFunction& function) {
  if (function.object == "vmlinux") {
    return true;
  }
  const auto module = std::ranges::find(state.modules, function.object, &introspect::Module::name);
  return module != state.modules.end() &&
         std::ranges::any_of(module->symbols.text, [&](const introspect::VirtRange& text) {
           return text.holds(function.address, 1);
         });
}

void check_restored(const introspect::VirtualMemory& memory, const ChangedFunction& function,
                    Leftovers& left) {
  const auto call = begins_with_call(memory, function.address);
  if (!call) {
    left.wrong.push_back(fmt::format("the code of {}:{} cannot be read: {}", function.object,
                                     function.name, call.error().what));
  } else if (*call) {
    left.hooked.push_back(fmt::format("{}:{}", function.object, function.name));
  } else {
    ++left.restored;
  }
}

}  // namespace

introspect::Result<bool> begins_with_call(const introspect::VirtualMemory& memory,
                                          GuestVirtAddr address) {
  constexpr std::byte kCall{0xe8};
  std::array<std::byte, 5> code{};
  if (auto done = memory.read(address, code); !done) {
    return std::unexpected(std::move(done).error());
  }
  // A nop at the start ends in a byte that is no call either.
  return code.front() == kCall || code.back() == kCall;
}

std::vector<ChangedFunction> changed_functions(const introspect::LivepatchState& state) {
  std::vector<ChangedFunction> changed;
  for (const introspect::LivePatch& patch : state.patches) {
    for (const introspect::PatchedObject& object : patch.objects) {
      for (const introspect::PatchedFunction& function : object.functions) {
        if (object.patched && function.old_func != GuestVirtAddr() &&
            std::ranges::find(changed, function.old_func, &ChangedFunction::address) ==
                changed.end()) {
          changed.push_back({object.name, function.name, function.old_func});
        }
      }
    }
  }
  return changed;
}

Leftovers find_leftovers(const introspect::VirtualMemory& memory, const MemoryState& state,
                         std::span<const ChangedFunction> before, std::span<const std::string> gone,
                         std::span<const std::string> unloaded) {
  Leftovers left;
  for (const introspect::LivePatch& patch : state.livepatch.patches) {
    if (names(gone, patch.name)) {
      left.wrong.push_back(
          fmt::format("{} is still on the kernel's list of livepatches", patch.name));
    }
  }
  for (const introspect::Module& module : state.modules) {
    if (names(unloaded, module.name)) {
      left.wrong.push_back(fmt::format("module {} is still in memory", module.name));
    }
  }
  const auto listed = changed_functions(state.livepatch);
  for (const ChangedFunction& function : before) {
    const bool changed =
        std::ranges::find(listed, function.address, &ChangedFunction::address) != listed.end();
    if (changed || !still_there(state, function)) {
      continue;
    }
    const bool stacked =
        std::ranges::find(state.livepatch.func_stacks, function.address, &FuncStack::old_func) !=
        state.livepatch.func_stacks.end();
    if (stacked) {
      left.wrong.push_back(fmt::format("{}:{} still has a replacement that no livepatch lists",
                                       function.object, function.name));
    } else {
      check_restored(memory, function, left);
    }
  }
  return left;
}

}  // namespace vpatch
