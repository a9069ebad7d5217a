// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qmp/channel.h"
#include "qmp/client.h"
#include "qmp/limits.h"

namespace vpatch::qmp {

// Channels over Unix sockets. Each owns its socket and runs its own I/O loop in the calling thread,
// and only during a call; a stop token triggered from any thread (one that waits for signals, say)
// wakes it at once. One caller at a time; a channel may move between threads.

/// A QEMU monitor in control mode. A broken connection stays broken: later calls give Errc::closed.
class MonitorChannel final : public Channel {
 public:
  /// Connects, awaits the greeting and negotiates, all within the options. Errc::connect when there
  /// is no such socket or nobody listens; Errc::timeout when the monitor is silent, as it is while
  /// another program holds it.
  static Result<std::unique_ptr<MonitorChannel>> connect(const std::string& path,
                                                         const CallOptions& options,
                                                         const MessageLimits& limits = {});

  /// The same on a connected socket, whose descriptor the channel owns from here on.
  static Result<std::unique_ptr<MonitorChannel>> adopt(int fd, const CallOptions& options,
                                                       const MessageLimits& limits = {});

  ~MonitorChannel() override;

  Result<boost::json::value> execute(std::string_view command, boost::json::object arguments,
                                     const CallOptions& options) override;

  /// The first event that `accept` takes, of those received since the last call of wait_event() or
  /// take_events() and of those to come. Events are offered in order and once: those before the
  /// accepted one are gone, those after it are kept.
  Result<Event> wait_event(const std::function<bool(const Event&)>& accept,
                           const CallOptions& options);

  /// Takes all events received so far, without waiting.
  std::vector<Event> take_events();

  /// Events lost because nobody took them: the oldest go once 4096 wait.
  std::size_t lost_events() const;

  /// The "QMP" member of the monitor's greeting: its version and capabilities.
  const boost::json::object& greeting() const;

 private:
  class Impl;
  explicit MonitorChannel(std::unique_ptr<Impl> impl);
  static Result<std::unique_ptr<MonitorChannel>> open(
      const std::function<void(Client&, Client::ConnectHandler)>& start,
      const MessageLimits& limits);
  std::unique_ptr<Impl> impl_;
};

/// A QEMU guest agent. There are no ids: the channel synchronises (guest-sync-delimited) when it
/// connects, and again before the next command after anything but a well-formed reply, so that a
/// late reply is never taken for a later command's. A message over the cap or one that is not JSON
/// therefore costs one command, not the channel.
///
/// QEMU serves one client of the agent's socket at a time: connecting while another holds it
/// succeeds and then meets silence, which ends in Errc::timeout.
class AgentChannel final : public Channel {
 public:
  /// Connects and synchronises, all within the options; an agent that is silent for some seconds is
  /// connected to anew. Errors as MonitorChannel::connect().
  static Result<std::unique_ptr<AgentChannel>> connect(const std::string& path,
                                                       const CallOptions& options,
                                                       const MessageLimits& limits = {});

  /// The same on a connected socket, whose descriptor the channel owns from here on.
  static Result<std::unique_ptr<AgentChannel>> adopt(int fd, const CallOptions& options,
                                                     const MessageLimits& limits = {});

  ~AgentChannel() override;

  Result<boost::json::value> execute(std::string_view command, boost::json::object arguments,
                                     const CallOptions& options) override;

 private:
  class Impl;
  explicit AgentChannel(std::unique_ptr<Impl> impl);
  static Result<std::unique_ptr<AgentChannel>> open(const std::function<Result<void>(Impl&)>& start,
                                                    const MessageLimits& limits);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vpatch::qmp
