// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/fake_kernel.h"

#include <algorithm>

#include <fmt/format.h>

namespace vpatch {

void FakeKernel::put(const ModuleImage& image, bool transition) {
  modules[image.name] = {.build_id = image.build_id, .references = 1};
  patches.push_back({.name = image.name,
                     .enabled = true,
                     .transition = transition,
                     .replace = image.replace,
                     .stack_order = std::nullopt,
                     .objects = image.objects});
  if (transition) {
    start_transition(patches.back(), true);
  }
}

ToolResult FakeKernel::insmod(const ModuleImage& image) {
  if (modules.contains(image.name)) {
    return {false, "insmod: ERROR: could not insert module: File exists"};
  }
  if (image.enables && state().in_transition() != nullptr) {
    return {false, "insmod: ERROR: could not insert module: Device or resource busy"};
  }
  modules[image.name] = {.build_id = image.build_id, .references = 0};
  tainted |= kExpectedTaint;
  if (image.enables) {
    print(fmt::format("livepatch: enabling patch '{}'", image.name));
    put(image, true);
  }
  return {true, ""};
}

ToolResult FakeKernel::rmmod(const std::string& name) {
  const auto found = modules.find(name);
  if (found == modules.end()) {
    return {false, fmt::format("rmmod: ERROR: Module {} is not currently loaded", name)};
  }
  if (found->second.references > 0) {
    return {false, fmt::format("rmmod: ERROR: Module {} is in use", name)};
  }
  modules.erase(found);
  return {true, ""};
}

ToolResult FakeKernel::write_enabled(const std::string& name, bool enabled) {
  const auto patch = std::ranges::find(patches, name, &GuestPatch::name);
  if (patch == patches.end()) {
    return {false, "sh: cannot create /sys/kernel/livepatch: Directory nonexistent"};
  }
  if (patch->enabled == enabled || (enabled && !patch->transition)) {
    return {
        false,
        "sh: printf: I/O error"};  // EINVAL: no change, or a patch that is already on its way out
  }
  if (!patch->transition && state().in_transition() != nullptr) {
    return {false, "sh: printf: I/O error"};  // EBUSY
  }
  start_transition(*patch, enabled);
  return {true, ""};
}

ToolResult FakeKernel::write_force(const std::string& name) {
  const auto patch = std::ranges::find(patches, name, &GuestPatch::name);
  if (patch == patches.end()) {
    return {false, "sh: cannot create /sys/kernel/livepatch: Directory nonexistent"};
  }
  if (!patch->transition) {
    return {false, "sh: printf: I/O error"};  // EINVAL
  }
  print("livepatch: forcing remaining tasks to the patched state");
  for (GuestPatch& one : patches) {
    const bool removed =
        patch->enabled ? patch->replace == true && one.name != name : one.name == name;
    one.forced = one.forced || removed;
  }
  clock_.schedule(kForced, [this, number = ++transition_] {
    if (number == transition_) {
      end_transition();
    }
  });
  return {true, ""};
}

void FakeKernel::start_transition(GuestPatch& patch, bool enabled) {
  print(fmt::format("livepatch: '{}': starting {} transition", patch.name,
                    enabled ? "patching" : "unpatching"));
  patch.enabled = enabled;
  patch.transition = true;
  if (const auto& duration = enabled ? patching : unpatching; duration) {
    clock_.schedule(*duration, [this, number = ++transition_] {
      if (number == transition_) {
        end_transition();
      }
    });
  } else {
    ++transition_;
  }
}

void FakeKernel::reboot() {
  boot_id.back() = static_cast<char>(boot_id.back() + 1);
  ++transition_;
  patches.clear();
  modules.clear();
  log.resize(1);
}

void FakeKernel::end_transition() {
  const auto patch =
      std::ranges::find_if(patches, [](const GuestPatch& one) { return one.transition; });
  if (patch == patches.end()) {
    return;
  }
  ++transition_;
  patch->transition = false;
  print(fmt::format("livepatch: '{}': {} complete", patch->name,
                    patch->enabled ? "patching" : "unpatching"));
  std::vector<std::string> leaving;
  for (const GuestPatch& one : patches) {
    if (!one.enabled || (patch->enabled && patch->replace == true && one.name != patch->name)) {
      leaving.push_back(one.name);
    }
  }
  for (const std::string& name : leaving) {
    leave(name);
  }
}

void FakeKernel::leave(const std::string& name) {
  const GuestPatch* const leaving = find(name);
  const bool kept = leaving != nullptr && leaving->forced;
  std::erase_if(patches, [&name](const GuestPatch& patch) { return patch.name == name; });
  clock_.schedule(reference_linger, [this, name, kept] {
    if (const auto module = modules.find(name); module != modules.end() && !kept) {
      module->second.references = 0;
    }
  });
}

void FakeKernel::print(const std::string& text) {
  log.push_back(fmt::format("[{:5}.000000] {}", log.size() + 1, text));
}

GuestState FakeKernel::state() const {
  GuestState state;
  state.release = release;
  state.boot_id = boot_id;
  state.tainted = tainted;
  state.uptime_seconds = 100;
  state.has_livepatch = has_livepatch;
  state.patches = patches;
  for (const auto& [name, module] : modules) {
    state.modules.push_back({name, module.references, module.flags});
  }
  state.guest_module = guest_module;
  return state;
}

const GuestPatch* FakeKernel::find(const std::string& name) const {
  const auto found = std::ranges::find(patches, name, &GuestPatch::name);
  return found == patches.end() ? nullptr : &*found;
}

}  // namespace vpatch
