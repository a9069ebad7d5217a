// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "introspect/guest/mailbox.h"
#include "vmm-agent/error.h"
#include "vmm-agent/guest/guest_view.h"

namespace vpatch {

/// What every command shows in the guest's /sys/kernel/vpatch besides what it does.
struct MailboxReport {
  std::uint32_t switched = 0;              ///< tasks the host has moved
  std::chrono::microseconds last_pause{};  ///< all pauses of this transition
  std::string blockers{};                  ///< lines; cut to what the mailbox holds
};

/// The host's end of the mailbox (guest-module/uapi/vpatch_mailbox.h): one command at a time. The
/// module may go away, or refuse, at any moment. One thread; the view must outlive it.
class MailboxPort {
 public:
  /// Finds the module and the kernel's objects that commands need. Outcome::unreachable with the
  /// reason and the next step when it is not loaded, speaks another version, or is switched off.
  static Result<MailboxPort> open(GuestView& view);

  /// Reads what the module says; to be asked before listens() and outstanding(). An error when it
  /// is gone.
  Result<void> refresh();
  /// It looks for commands now, as it does while a transition is in sight.
  bool listens() const { return seen_.watching && seen_.features != 0; }
  /// The last command has been neither done nor refused; one that was not taken in a second is
  /// given up.
  bool outstanding() const;
  /// The errno for which the last command was refused; 0 when it was not, or when it merely came
  /// after the end of its transition.
  int refused() const;

  /// Each gives the module a command; nothing is done while it does not listen. An error when it is
  /// gone.
  Result<void> retry(std::optional<std::uint32_t> cpu, const MailboxReport& report);
  Result<void> resched(std::span<const std::uint32_t> cpus, const MailboxReport& report);
  Result<void> signal(const MailboxReport& report);
  Result<void> report(const MailboxReport& report);

 private:
  struct Command;

  MailboxPort(GuestView& view, introspect::GuestVirtAddr address)
      : view_(&view), address_(address) {}
  Result<void> send(const Command& command, const MailboxReport& report);

  GuestView* view_;
  introspect::GuestVirtAddr address_;
  introspect::GuestVirtAddr work_, signals_;
  introspect::MailboxView seen_{};
  std::uint32_t sequence_ = 0;
  std::chrono::steady_clock::time_point read_, sent_;
};

}  // namespace vpatch
