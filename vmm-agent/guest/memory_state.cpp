// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/guest/memory_state.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "introspect/memory/virtual_memory.h"

namespace vpatch {
namespace {

using introspect::GuestKernel;
using introspect::GuestVirtAddr;

constexpr int kTries = 5;
/// Taint bits that the kernel keeps for modules: P, F, C, O, E, K, X, N.
constexpr std::uint64_t kModuleTaints = 0x5b403;
constexpr std::size_t kMaxVersion = 64;

/// Calls `look` until it does not fail for something that passes.
template <class Look>
auto steadily(GuestKernel& kernel, const Look& look) {
  auto result = look();
  for (int tries = 1; !result && result.error().code == introspect::Errc::torn && tries < kTries;
       ++tries) {
    kernel.forget_pages();
    result = look();
  }
  return result;
}

GuestPatch patch_of(const introspect::LivePatch& patch, bool in_transition) {
  GuestPatch result;
  result.name = patch.name;
  result.enabled = patch.enabled;
  result.transition = in_transition;
  result.replace = patch.replace;
  result.forced = patch.forced;
  for (const introspect::PatchedObject& object : patch.objects) {
    GuestPatchedObject shown{.name = object.name, .patched = object.patched, .functions = {}};
    for (const introspect::PatchedFunction& function : object.functions) {
      // sysfs shows position 1 for a name that is unique.
      shown.functions.push_back(
          fmt::format("{},{}", function.name, std::max<std::uint64_t>(function.sympos, 1)));
    }
    result.objects.push_back(std::move(shown));
  }
  return result;
}

/// The uuid in /proc/sys/kernel/random/boot_id; empty until somebody in the guest has asked for it.
std::string boot_id(const GuestKernel& kernel) {
  const auto address = kernel.names().address_of("sysctl_bootid");
  const auto id =
      address ? introspect::read_value<std::array<std::uint8_t, 16>>(kernel.memory(), *address)
              : std::unexpected(address.error());
  if (!id || std::ranges::all_of(*id, [](std::uint8_t byte) { return byte == 0; })) {
    return {};
  }
  std::string text;
  for (std::size_t at = 0; at < id->size(); ++at) {
    text += at == 4 || at == 6 || at == 8 || at == 10 ? "-" : "";
    text += fmt::format("{:02x}", (*id)[at]);
  }
  return text;
}

}  // namespace

std::string module_version(const GuestKernel& kernel, const introspect::Module& module) {
  const auto member = kernel.names().member("module", "version");
  const auto place = member ? module.address.plus(member->offset()) : std::nullopt;
  const auto text = place ? introspect::read_pointer(kernel.memory(), *place)
                          : introspect::fail(introspect::Errc::not_found, "");
  const auto version = text && text->value() != 0
                           ? introspect::read_text(kernel.memory(), *text, kMaxVersion)
                           : std::unexpected(introspect::Error{});
  return version.value_or("");
}

Result<MemoryState> read_memory_state(GuestView& view) {
  GuestKernel& kernel = view.kernel();
  kernel.forget_pages();
  const auto& layouts = kernel.layouts();
  MemoryState state;
  auto modules =
      steadily(kernel, [&] { return introspect::read_modules(kernel.memory(), layouts.modules); });
  if (!modules) {
    return std::unexpected(from_introspect(std::move(modules.error()).in_context("read modules")));
  }
  state.modules = *std::move(modules);
  if (layouts.livepatch) {
    auto livepatch = steadily(
        kernel, [&] { return introspect::read_livepatch(kernel.memory(), *layouts.livepatch); });
    if (!livepatch) {
      return std::unexpected(
          from_introspect(std::move(livepatch.error()).in_context("read the livepatch state")));
    }
    state.livepatch = *std::move(livepatch);
  }
  auto health = layouts.health ? introspect::read_health(kernel.memory(), *layouts.health)
                               : std::unexpected(layouts.health.error());
  if (!health) {
    return std::unexpected(
        from_introspect(std::move(health.error()).in_context("read taint and uptime")));
  }

  GuestState& guest = state.guest;
  guest.release = kernel.info().release;
  guest.boot_id = boot_id(kernel);
  guest.tainted = health->taint;
  guest.uptime_seconds = static_cast<double>(health->uptime_s);
  guest.has_livepatch = layouts.livepatch.has_value();
  for (std::size_t index = 0; index < state.livepatch.patches.size(); ++index) {
    guest.patches.push_back(
        patch_of(state.livepatch.patches[index], state.livepatch.transition == index));
    GuestPatch& patch = guest.patches.back();
    const auto module = std::ranges::find(state.modules, patch.name, &introspect::Module::name);
    patch.build_id = module == state.modules.end() ? "" : module->build_id;
  }
  for (const introspect::Module& module : state.modules) {
    guest.modules.push_back(
        {module.name,
         static_cast<std::uint32_t>(std::clamp<std::int64_t>(module.references, 0, UINT32_MAX)),
         taint_letters(module.taints & kModuleTaints),
         module.state == introspect::ModuleState::live});
    if (module.name == "vpatch_guest") {
      guest.guest_module.emplace("version", module_version(kernel, module));
    }
  }
  return state;
}

LivepatchLog read_livepatch_log(GuestView& view) {
  const GuestKernel& kernel = view.kernel();
  const auto& layout = kernel.layouts().log;
  const auto log = layout ? introspect::read_kernel_log(kernel.memory(), *layout)
                          : std::unexpected(layout.error());
  std::vector<std::string> lines;
  for (const introspect::LogRecord& record :
       log ? log->records : std::vector<introspect::LogRecord>()) {
    // Facility 0 is the kernel; programs write to the log too.
    if (record.facility == 0 && record.text.starts_with("livepatch: ")) {
      lines.push_back(record.text);
    }
  }
  return parse_livepatch_log(lines);
}

}  // namespace vpatch
