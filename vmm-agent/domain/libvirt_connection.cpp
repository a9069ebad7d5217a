// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/domain/libvirt_connection.h"

#include <thread>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/domain/bounded.h"

namespace vpatch {
namespace {

constexpr int kKeepAliveSeconds = 5;
constexpr unsigned kKeepAliveMisses = 4;

/// Runs libvirt's event loop, which sends and answers keepalives, until the program ends.
class EventLoop {
 public:
  EventLoop() {
    virSetErrorFunc(nullptr,
                    [](void*, virErrorPtr) {});  // errors are returned, never printed by libvirt
    usable_ = virEventRegisterDefaultImpl() == 0;
    if (usable_) {
      // The timer bounds one turn of the loop, so that the destructor never waits long.
      virEventAddTimeout(100, [](int, void*) {}, nullptr, nullptr);
      thread_ = std::jthread([](const std::stop_token& stop) {
        while (!stop.stop_requested() && virEventRunDefaultImpl() == 0) {
        }
      });
    }
  }
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop() = default;

  bool usable() const { return usable_; }

 private:
  bool usable_ = false;
  std::jthread thread_;
};

}  // namespace

LibvirtError last_libvirt_error() {
  const virErrorPtr error = virGetLastError();
  if (error == nullptr || error->message == nullptr) {
    return {VIR_ERR_OK, "unknown libvirt error"};
  }
  return {error->code, error->message};
}

Result<ConnectionHandle> open_connection(const std::string& uri, const qmp::CallOptions& options) {
  struct Opened {
    ConnectionHandle connection;
    LibvirtError error;
  };
  static EventLoop loop;  // libvirt has one event implementation for the whole process
  auto opened = bounded(
      [uri] {
        ConnectionHandle handle(virConnectOpenAuth(uri.c_str(), virConnectAuthPtrDefault, 0));
        return Opened{std::move(handle), last_libvirt_error()};
      },
      options.timeout, options.stop);
  if (!opened) {
    return options.stop.stop_requested()
               ? fail(Outcome::refused, "interrupted")
               : fail(Outcome::unreachable, fmt::format("libvirt at {} does not answer", uri),
                      "Look at its daemon (systemctl status libvirtd); it may have to be started "
                      "again.");
  }
  ConnectionHandle connection = std::move(opened->connection);
  if (connection == nullptr) {
    const LibvirtError& error = opened->error;
    const bool denied = error.code == VIR_ERR_AUTH_FAILED || error.code == VIR_ERR_AUTH_CANCELLED ||
                        error.code == VIR_ERR_AUTH_UNAVAILABLE;
    return fail(Outcome::unreachable, fmt::format("libvirt at {}: {}", uri, error.text),
                denied ? "Run vpatch as root, or as a member of the libvirt group."
                       : "Start libvirtd (systemctl start libvirtd), or name another connection "
                         "with --connect URI.");
  }
  if (loop.usable()) {
    virConnectSetKeepAlive(connection.get(), kKeepAliveSeconds, kKeepAliveMisses);
  }
  return connection;
}

Result<DomainHandle> find_domain(virConnectPtr connection, const std::string& uri,
                                 const std::string& name) {
  DomainHandle domain(virDomainLookupByName(connection, name.c_str()));
  const LibvirtError error = last_libvirt_error();
  if (domain == nullptr && error.code != VIR_ERR_NO_DOMAIN) {
    return fail(Outcome::unreachable, fmt::format("{} at {}: {}", name, uri, error.text));
  }
  if (domain == nullptr && name.size() == VIR_UUID_STRING_BUFLEN - 1) {
    domain.reset(virDomainLookupByUUIDString(connection, name.c_str()));
  }
  if (domain == nullptr) {
    return fail(Outcome::unreachable, fmt::format("no domain named {} at {}", name, uri),
                fmt::format("List the domains with: virsh -c {} list --all", uri));
  }
  return domain;
}

RunState to_run_state(int state, int reason) {
  switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
      return RunState::running;
    case VIR_DOMAIN_PAUSED:
      if (reason == VIR_DOMAIN_PAUSED_CRASHED) {
        return RunState::crashed;
      }
      return reason == VIR_DOMAIN_PAUSED_USER || reason == VIR_DOMAIN_PAUSED_UNKNOWN
                 ? RunState::paused
                 : RunState::held;
    case VIR_DOMAIN_PMSUSPENDED:
      return RunState::held;
    case VIR_DOMAIN_SHUTOFF:
    case VIR_DOMAIN_SHUTDOWN:
      return RunState::shut_off;
    case VIR_DOMAIN_CRASHED:
      return RunState::crashed;
    default:
      return RunState::other;
  }
}

}  // namespace vpatch
