// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "qmp/channel.h"
#include "vmm-agent/domain/domain.h"
#include "vmm-agent/error.h"

namespace vpatch {

struct CloseConnection {
  void operator()(virConnectPtr connection) const { virConnectClose(connection); }
};
struct FreeDomain {
  void operator()(virDomainPtr domain) const { virDomainFree(domain); }
};
using ConnectionHandle = std::unique_ptr<virConnect, CloseConnection>;
using DomainHandle = std::unique_ptr<virDomain, FreeDomain>;

/// Opens a libvirt connection whose calls cannot hang for ever: keepalive messages close it when
/// the daemon falls silent, and the opening itself is bounded by `options`. Starts this process's
/// libvirt event loop on first use.
Result<ConnectionHandle> open_connection(const std::string& uri, const qmp::CallOptions& options);

/// The domain of that name or UUID. Outcome::unreachable when there is none.
Result<DomainHandle> find_domain(virConnectPtr connection, const std::string& uri,
                                 const std::string& name);

/// A state as libvirt gives it, with its reason.
RunState to_run_state(int state, int reason);

/// libvirt's last error on this thread: its code and text.
struct LibvirtError {
  int code = VIR_ERR_OK;
  std::string text;
};
LibvirtError last_libvirt_error();

}  // namespace vpatch
