// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain.h"

namespace vpatch {

std::string_view to_string(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::paused:
      return "paused";
    case RunState::held:
      return "paused by its hypervisor";
    case RunState::shut_off:
      return "shut off";
    case RunState::crashed:
      return "crashed";
    case RunState::other:
      break;
  }
  return "in an unknown state";
}

Result<std::unique_ptr<Domain>> open_domain(const Target& target, const qmp::CallOptions& options) {
  if (target.is_libvirt()) {
    return open_libvirt_domain(target.uri, target.domain, options);
  }
  return open_qemu_domain(target.qmp, target.qga, options);
}

Error from_qmp(const qmp::Error& error) {
  std::string hint;
  switch (error.code) {
    case qmp::Errc::connect:
    case qmp::Errc::closed:
    case qmp::Errc::timeout:
      hint =
          "Check that qemu-guest-agent runs in the guest and that nobody else holds its channel; "
          "`vpatch doctor` looks at each step.";
      break;
    case qmp::Errc::command:
      if (error.error_class == "CommandNotFound") {
        hint =
            "Allow this command in the guest agent's configuration (block-rpcs/allow-rpcs); "
            "`vpatch doctor` lists all that vpatch needs.";
      }
      break;
    case qmp::Errc::cancelled:
      return Error{Outcome::refused, "interrupted"};
    case qmp::Errc::protocol:
    case qmp::Errc::too_large:
    case qmp::Errc::argument:
      break;
  }
  return Error{Outcome::unreachable, error.what, std::move(hint)};
}

}  // namespace vpatch
