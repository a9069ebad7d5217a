// SPDX-License-Identifier: Apache-2.0
#pragma once

// Commands to the guest agent with their replies checked. Private to the library.

#include <string_view>

#include <boost/json.hpp>

#include "qmp/channel.h"

namespace vpatch::qmp {

/// Runs `command` over `channel`. A command that the agent does not have is told apart from one
/// that its configuration blocks, in words: both are Errc::command of class CommandNotFound.
Result<boost::json::value> agent_execute(Channel& channel, std::string_view command,
                                         boost::json::object arguments, const CallOptions& options);

/// The same for a command whose reply is an object; another reply is Errc::protocol.
Result<boost::json::object> agent_object(Channel& channel, std::string_view command,
                                         boost::json::object arguments, const CallOptions& options);

}  // namespace vpatch::qmp
