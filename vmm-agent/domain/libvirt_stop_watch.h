// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <libvirt/libvirt.h>

#include "qmp/channel.h"
#include "vmm-agent/domain/libvirt_connection.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// Hears the STOP and RESUME events of one domain's QEMU through libvirt, which delivers them in
/// the thread of its event loop. Used and destroyed by one caller at a time; holds a reference of
/// the connection.
class LibvirtStopWatch {
 public:
  /// Outcome::unreachable when libvirt has no such events (another hypervisor, no permission).
  static Result<LibvirtStopWatch> start(virConnectPtr connection, virDomainPtr domain,
                                        const qmp::CallOptions& options);
  LibvirtStopWatch(LibvirtStopWatch&&) = default;
  LibvirtStopWatch& operator=(LibvirtStopWatch&&) = delete;
  ~LibvirtStopWatch();

  /// What came so far counts no more.
  void forget();
  /// A resume is about to be asked for.
  void asking();
  /// As Domain::resumed_by_others().
  bool resumed_by_others() const;
  /// As Domain::stopped_for().
  Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions& options);

 private:
  struct State;

  LibvirtStopWatch(ConnectionHandle connection, std::shared_ptr<State> state, int callback)
      : connection_(std::move(connection)), state_(std::move(state)), callback_(callback) {}

  ConnectionHandle connection_;
  std::shared_ptr<State> state_;  ///< shared with the callback, which may outlive this
  int callback_;
};

}  // namespace vpatch
