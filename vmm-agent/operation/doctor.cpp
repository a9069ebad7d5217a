// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/operation/doctor.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/domain/libvirt_connection.h"
#include "vmm-agent/guest/agent_guest.h"
#include "vmm-agent/guest/boot_cache.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch {
namespace {

Check failed(std::string id, const Error& error) {
  return {std::move(id), Health::failed, error.what, error.hint};
}

Check check_libvirt(const std::string& uri, const qmp::CallOptions& options) {
  auto connection = open_connection(uri, options);
  if (!connection) {
    return failed("libvirt", connection.error());
  }
  unsigned long version = 0;
  virConnectGetLibVersion(connection->get(), &version);
  return {"libvirt", Health::ok,
          fmt::format("libvirt {}.{}.{} answers at {}", version / 1'000'000, version / 1000 % 1000,
                      version % 1000, uri),
          ""};
}

std::string_view backend_text(MemoryBackend backend) {
  switch (backend) {
    case MemoryBackend::mapped:
      return "mapped shared memory";
    case MemoryBackend::file:
      return "shared memory, read as a file";
    case MemoryBackend::process:
      return "process_vm_readv";
    case MemoryBackend::core:
      break;
  }
  return "a core file";
}

/// Guest memory costs nothing to look at, and explains the kernel without any help of the guest.
Check check_memory(Domain& domain, const qmp::CallOptions& options) {
  constexpr std::string_view kLost =
      " Without it vpatch applies, but foretells and proves nothing.";
  auto view = GuestView::open(domain, BootCache(std::filesystem::path()), options);
  if (!view) {
    return {"memory", Health::warning, "guest memory cannot be read: " + view.error().what,
            view.error().hint + std::string(kLost)};
  }
  const introspect::GuestKernel& kernel = view->kernel();
  const std::chrono::duration<double, std::milli> took = view->bootstrap_time();
  std::string text =
      fmt::format("guest memory can be read ({}): kernel {} learned in {:.1f} ms",
                  backend_text(view->backend()), kernel.info().release, took.count());
  const auto& layouts = kernel.layouts();
  for (const introspect::Error* gap :
       {layouts.livepatch ? nullptr : &layouts.livepatch.error(),
        layouts.log ? nullptr : &layouts.log.error(), layouts.orc ? nullptr : &layouts.orc.error(),
        layouts.unwind ? nullptr : &layouts.unwind.error(),
        layouts.health ? nullptr : &layouts.health.error()}) {
    if (gap != nullptr) {
      return {"memory", Health::warning, text + "; but " + gap->what,
              "This kernel is only partly understood." + std::string(kLost)};
    }
  }
  return {"memory", Health::ok, std::move(text), ""};
}

Check check_agent_commands(AgentGuest& guest, const qmp::CallOptions& options, bool& usable) {
  auto info = guest.agent_info(options);
  if (!info) {
    return failed("agent", info.error());
  }
  std::string blocked;
  for (const std::string_view command : kNeededAgentCommands) {
    if (!info->allows(command)) {
      blocked += blocked.empty() ? "" : ", ";
      blocked += command;
    }
  }
  if (!blocked.empty()) {
    return {"agent", Health::failed,
            fmt::format("guest agent {} blocks: {}", info->version, blocked),
            "Allow them in the guest: BLOCK_RPCS/--block-rpcs (or FILTER_RPC_ARGS) of "
            "qemu-guest-agent, then restart it."};
  }
  usable = true;
  return {"agent", Health::ok,
          fmt::format("guest agent {} answers and allows all that vpatch needs", info->version),
          ""};
}

void check_guest(AgentGuest& guest, const qmp::CallOptions& options, std::vector<Check>& checks) {
  auto state = guest.observe(options);
  if (!state) {
    checks.push_back(failed("guest", state.error()));
    return;
  }
  if (state->has_livepatch) {
    checks.push_back({"livepatch", Health::ok,
                      fmt::format("kernel {} supports livepatches, {} loaded", state->release,
                                  state->patches.size()),
                      ""});
  } else {
    checks.push_back({"livepatch", Health::failed,
                      fmt::format("kernel {} has no /sys/kernel/livepatch", state->release),
                      "It needs a kernel built with CONFIG_LIVEPATCH=y."});
  }
  if (const auto version = state->guest_module.find("version");
      version != state->guest_module.end()) {
    checks.push_back({"guest-module", Health::ok,
                      fmt::format("vpatch_guest {} is loaded", version->second), ""});
  } else {
    checks.push_back({"guest-module", Health::warning, "vpatch_guest is not loaded in the guest",
                      "vpatch works without it, at the kernel's own pace. Install it in the guest "
                      "with DKMS (guest-module/README.md)."});
  }
}

bool check_running(Domain& domain, const qmp::CallOptions& options, std::vector<Check>& checks) {
  auto state = domain.run_state(options);
  if (!state) {
    checks.push_back(failed("domain", state.error()));
    return false;
  }
  if (*state != RunState::running) {
    checks.push_back({"domain", Health::failed,
                      fmt::format("{} is {}", domain.name(), to_string(*state)),
                      "Only a running VM can be patched: start or resume it."});
    return false;
  }
  checks.push_back({"domain", Health::ok, fmt::format("{} is running", domain.name()), ""});
  return true;
}

}  // namespace

std::string_view to_string(Health health) {
  switch (health) {
    case Health::ok:
      return "ok";
    case Health::warning:
      return "warning";
    case Health::failed:
      break;
  }
  return "failed";
}

std::vector<Check> diagnose(const Target& target, const qmp::CallOptions& options) {
  std::vector<Check> checks = {check_kvm()};
  if (target.qmp.empty()) {
    checks.push_back(check_libvirt(target.uri, options));
    if (checks.back().health == Health::failed || target.domain.empty()) {
      return checks;
    }
  }
  auto domain = open_domain(target, options);
  if (!domain) {
    checks.push_back(failed("domain", domain.error()));
    return checks;
  }
  if (!check_running(**domain, options, checks)) {
    return checks;
  }
  checks.push_back(check_memory(**domain, options));
  auto channel = (*domain)->agent(options);
  if (!channel) {
    checks.push_back(failed("agent", channel.error()));
    return checks;
  }
  AgentGuest guest(**channel);
  bool usable = false;
  checks.push_back(check_agent_commands(guest, options, usable));
  if (usable) {
    check_guest(guest, options, checks);
  }
  return checks;
}

}  // namespace vpatch
