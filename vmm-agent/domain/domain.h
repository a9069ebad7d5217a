// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "qmp/channel.h"
#include "vmm-agent/error.h"

namespace vpatch {

/// `held`: stopped by the hypervisor itself, for an I/O error, a migration, a snapshot and the
/// like.
enum class RunState : std::uint8_t { running, paused, held, shut_off, crashed, other };

std::string_view to_string(RunState state);

/// One VM as its hypervisor's management interface shows it. Owns its connections; destroying it
/// closes them and changes nothing in the VM. One caller at a time.
class Domain {
 public:
  Domain() = default;
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;
  virtual ~Domain() = default;

  virtual const std::string& name() const = 0;
  /// What tells this VM from all others on the host, safe as a file name: its UUID where it has
  /// one.
  virtual const std::string& identity() const = 0;

  virtual Result<RunState> run_state(const qmp::CallOptions& options) = 0;
  /// Stops all vCPUs, or lets them run again; done already is done. Use `Pause`, which pays its
  /// debt. After a timeout the hypervisor may still carry it out. A domain that is held for a
  /// migration is not resumed: another host may run it.
  virtual Result<void> pause(const qmp::CallOptions& options) = 0;
  virtual Result<void> resume(const qmp::CallOptions& options) = 0;
  /// From here on the monitor's STOP and RESUME events count for stopped_for(), older ones do not.
  /// Where there are no such events, stopped_for() tells why.
  virtual void watch_stops(const qmp::CallOptions& options) = 0;
  /// How long the vCPUs stood still the last time: from the newest STOP event to the RESUME event
  /// after it, by QEMU's stamps (the host's wall clock). Outcome::unreachable when these events did
  /// not come within the options, since watch_stops().
  virtual Result<std::chrono::microseconds> stopped_for(const qmp::CallOptions& options) = 0;
  /// Whether a RESUME event has come, since watch_stops(), that QEMU has stamped before this
  /// object's resume() was called. Does not wait; false where there are no such events.
  virtual bool resumed_by_others() = 0;
  /// Whether a migration is under way, or may be: what the host writes to guest memory then might
  /// not reach the destination. Outcome::unreachable when the monitor does not say.
  Result<bool> migrating(const qmp::CallOptions& options);
  /// The QEMU monitor; valid as long as the domain.
  virtual Result<qmp::Channel*> monitor() = 0;
  /// The guest agent, connected on first use; valid as long as the domain.
  virtual Result<qmp::Channel*> agent(const qmp::CallOptions& options) = 0;
  /// Process id of the VMM on this host.
  virtual Result<pid_t> vmm_pid() = 0;
};

/// How the user names a VM: a libvirt domain, or the sockets of a plain QEMU.
struct Target {
  std::string uri = "qemu:///system";
  std::string domain;  ///< libvirt name or UUID
  std::string qmp;     ///< path of the monitor socket; not together with `domain`
  std::string qga;     ///< path of the guest agent socket

  bool is_libvirt() const { return !domain.empty(); }
};

/// Finds the VM. Outcome::unreachable when there is none, or its hypervisor does not answer.
Result<std::unique_ptr<Domain>> open_domain(const Target& target, const qmp::CallOptions& options);

/// The same for each backend.
Result<std::unique_ptr<Domain>> open_libvirt_domain(const std::string& uri, const std::string& name,
                                                    const qmp::CallOptions& options);
Result<std::unique_ptr<Domain>> open_qemu_domain(const std::string& qmp_path,
                                                 const std::string& qga_path,
                                                 const qmp::CallOptions& options);

/// Turns a failed agent or monitor call into an error for the user, with the next step.
Error from_qmp(const qmp::Error& error);

}  // namespace vpatch
