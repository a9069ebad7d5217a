// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/mailbox.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "guest-module/uapi/vpatch_mailbox.h"
#include "introspect/symbols/module_symbols.h"

namespace vpatch::introspect {
namespace {

constexpr std::string_view kModule = "vpatch_guest";

static_assert(sizeof(vpatch_mailbox_event) == 16);
static_assert(offsetof(vpatch_guest_half, events) == 64);
static_assert(sizeof(vpatch_guest_half) == VPATCH_HALF_SIZE);
static_assert(offsetof(vpatch_host_half, cpus) == 40);
static_assert(sizeof(vpatch_host_half) == VPATCH_HALF_SIZE);
static_assert(sizeof(vpatch_mailbox) == VPATCH_MAILBOX_SIZE);
static_assert(VPATCH_MAILBOX_SIZE == kPageSize);

Result<void> check(const vpatch_guest_half& guest, GuestVirtAddr mailbox) {
  if (guest.magic != VPATCH_MAILBOX_MAGIC) {
    return fail(Errc::corrupt, fmt::format("there is no mailbox of {} at {:#x}: it is being loaded "
                                           "or unloaded, or is something else of this name",
                                           kModule, mailbox.value()));
  }
  if (guest.version != VPATCH_MAILBOX_VERSION) {
    return fail(Errc::not_found, fmt::format("the guest's module {} speaks version {}, this vpatch "
                                             "{}",
                                             kModule, guest.version, VPATCH_MAILBOX_VERSION));
  }
  if (guest.size != VPATCH_MAILBOX_SIZE) {
    return fail(Errc::corrupt, fmt::format("the mailbox of {} would have {} bytes, not {}", kModule,
                                           guest.size, VPATCH_MAILBOX_SIZE));
  }
  return {};
}

std::vector<MailboxEvent> events_of(const vpatch_guest_half& guest) {
  std::vector<MailboxEvent> events;
  const std::uint32_t count = std::min<std::uint32_t>(guest.event_count, VPATCH_EVENTS);
  for (std::uint32_t back = count; back > 0; --back) {
    const vpatch_mailbox_event& one = guest.events[(guest.event_count - back) % VPATCH_EVENTS];
    events.push_back({one.time_ns, one.kind, one.value});
  }
  return events;
}

}  // namespace

Result<GuestVirtAddr> find_mailbox(const VirtualMemory& memory, std::span<const Module> modules) {
  const auto module = std::ranges::find(modules, kModule, &Module::name);
  if (module == modules.end()) {
    return fail(Errc::not_found, fmt::format("the module {} is not loaded in the guest", kModule));
  }
  auto symbols = ModuleSymbols::load(memory, module->symbols);
  if (!symbols) {
    return std::unexpected(
        std::move(symbols).error().in_context(fmt::format("find the mailbox of {}", kModule)));
  }
  const auto found = symbols->named(VPATCH_MAILBOX_SYMBOL, 1);
  if (found.empty()) {
    return fail(
        Errc::not_found,
        fmt::format("the guest's module {} shows no symbol {}: it is another module of this "
                    "name, or the kernel lacks CONFIG_KALLSYMS_ALL",
                    kModule, VPATCH_MAILBOX_SYMBOL));
  }
  const GuestVirtAddr address = found.front().address;
  if (address.value() % VPATCH_MAILBOX_SIZE != 0) {
    return fail(Errc::corrupt, fmt::format("the mailbox of {} at {:#x} does not start a page",
                                           kModule, address.value()));
  }
  return address;
}

Result<MailboxView> read_mailbox(const VirtualMemory& memory, GuestVirtAddr mailbox) {
  std::array<std::byte, sizeof(vpatch_mailbox)> bytes{};
  if (auto done = memory.read(mailbox, bytes); !done) {
    return std::unexpected(
        std::move(done).error().in_context(fmt::format("read the mailbox of {}", kModule)));
  }
  vpatch_mailbox copy{};
  std::memcpy(&copy, bytes.data(), sizeof(copy));
  if (auto fine = check(copy.guest, mailbox); !fine) {
    return std::unexpected(std::move(fine).error());
  }
  return MailboxView{.version = copy.guest.version,
                     .features = copy.guest.features,
                     .watching = copy.guest.watching != 0,
                     .instance = copy.guest.instance,
                     .acked = copy.guest.acked,
                     .result = copy.guest.result,
                     .wakeups = copy.guest.wakeups,
                     .retries = copy.guest.retries,
                     .rescheds = copy.guest.rescheds,
                     .signals = copy.guest.signals,
                     .sequence = copy.host.sequence,
                     .events = events_of(copy.guest)};
}

}  // namespace vpatch::introspect
