// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/domain.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

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

Result<bool> Domain::migrating(const qmp::CallOptions& options) {
  // All else is a stage of a migration, those that newer QEMUs add included.
  static constexpr std::array<std::string_view, 4> kOver = {"none", "cancelled", "failed",
                                                            "completed"};
  const auto channel = monitor();
  if (!channel) {
    return std::unexpected(channel.error());
  }
  const auto reply = (*channel)->execute("query-migrate", {}, options);
  if (!reply) {
    Error error = from_qmp(reply.error()).in_context(name());
    error.hint.clear();  // it is about the guest agent
    return std::unexpected(std::move(error));
  }
  const auto* object = reply->if_object();
  const auto* status = object != nullptr ? object->if_contains("status") : nullptr;
  if (object == nullptr || (status != nullptr && !status->is_string())) {
    return fail(Outcome::unreachable,
                fmt::format("{}: query-migrate: the reply has no status", name()));
  }
  return status != nullptr &&
         std::ranges::find(kOver, std::string_view(status->get_string())) == kOver.end();
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
