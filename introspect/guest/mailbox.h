// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "introspect/guest/guest_kernel.h"
#include "introspect/kernel/modules.h"
#include "introspect/memory/virtual_memory.h"

namespace vpatch::introspect {

/// Something the module vpatch_guest saw or did.
struct MailboxEvent {
  std::uint64_t time_ns = 0;  ///< CLOCK_MONOTONIC of the guest
  std::uint32_t kind = 0;     ///< VPATCH_EVENT_*, or one that is not known here
  std::int32_t value = 0;     ///< what it means depends on the kind

  friend bool operator==(const MailboxEvent&, const MailboxEvent&) = default;
};

/// What the mailbox of vpatch_guest holds (guest-module/uapi/vpatch_mailbox.h says what it means).
struct MailboxView {
  std::uint32_t version = 0;
  std::uint32_t features = 0;  ///< VPATCH_FEATURE_* bits; 0 while the guest wants no help
  bool watching = false;       ///< it looks for commands now
  std::uint64_t instance = 0;  ///< differs by load of the module
  std::uint32_t acked = 0;     ///< sequence number of the last command done or refused
  std::int32_t result = 0;     ///< of that one: 0 or -errno
  std::uint32_t wakeups = 0, retries = 0, rescheds = 0, signals = 0;  ///< since it was loaded
  std::uint32_t sequence = 0;  ///< number of the last command that a host has given
  /// Oldest first, at most VPATCH_EVENTS. A guest that runs may have put a newer one in the place
  /// of the oldest meanwhile.
  std::vector<MailboxEvent> events;
};

/// Where the mailbox lies: the symbol vpatch_mailbox of the module vpatch_guest, which is among
/// `modules`. Errc::not_found when the module is not loaded or has no such symbol, Errc::corrupt
/// when it does not start a page, errors of ModuleSymbols.
Result<GuestVirtAddr> find_mailbox(const VirtualMemory& memory, std::span<const Module> modules);

inline Result<GuestVirtAddr> find_mailbox(const GuestKernel& kernel,
                                          std::span<const Module> modules) {
  return find_mailbox(kernel.memory(), modules);
}

/// Copies the page once and checks the copy. Errc::corrupt when it is no mailbox, or not one yet,
/// or of another size; Errc::not_found for one of another version; errors of the memory.
Result<MailboxView> read_mailbox(const VirtualMemory& memory, GuestVirtAddr mailbox);

}  // namespace vpatch::introspect
