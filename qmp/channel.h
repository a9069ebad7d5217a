// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <stop_token>
#include <string_view>

#include <boost/json.hpp>

#include "qmp/error.h"

namespace vpatch::qmp {

/// The bounds of one call. Every call has a deadline; a default-constructed stop token never fires.
struct CallOptions {
  std::chrono::milliseconds timeout{20'000};
  std::stop_token stop{};
};

/// One command at a time to a QEMU monitor or guest agent, whatever carries it: a Unix socket (this
/// library) or libvirt's pass-through calls (the agent's libvirt backend).
///
/// Not thread-safe: one caller at a time. After a timeout the channel may still be used; a late
/// reply is never taken for the reply to a later command.
class Channel {
 public:
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  virtual ~Channel() = default;

  /// Sends {"execute": command, "arguments": arguments} and returns the reply's "return" value.
  virtual Result<boost::json::value> execute(std::string_view command,
                                             boost::json::object arguments,
                                             const CallOptions& options) = 0;
};

}  // namespace vpatch::qmp
