// SPDX-License-Identifier: Apache-2.0
#include "qmp/agent_reply.h"

#include <utility>

#include <fmt/format.h>

#include "qmp/message.h"

namespace vpatch::qmp {

Result<boost::json::value> agent_execute(Channel& channel, std::string_view command,
                                         boost::json::object arguments,
                                         const CallOptions& options) {
  Result<boost::json::value> reply = channel.execute(command, std::move(arguments), options);
  if (!reply && reply.error().code == Errc::command &&
      reply.error().error_class == "CommandNotFound") {
    // The agent gives both the same class, and since ever the same words for the second: "has been
    // disabled".
    const bool blocked = reply.error().what.find("disabled") != std::string::npos;
    reply.error().what = fmt::format("{} ({})",
                                     blocked ? "the guest agent's configuration blocks this command"
                                             : "the guest agent does not have this command",
                                     reply.error().what);
  }
  return reply;
}

Result<boost::json::object> agent_object(Channel& channel, std::string_view command,
                                         boost::json::object arguments,
                                         const CallOptions& options) {
  Result<boost::json::value> reply = agent_execute(channel, command, std::move(arguments), options);
  if (!reply) {
    return std::unexpected(std::move(reply.error()));
  }
  if (!reply->is_object()) {
    return failed(command, Errc::protocol, "the reply is not an object");
  }
  return std::move(reply->get_object());
}

}  // namespace vpatch::qmp
