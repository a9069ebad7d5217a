// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/assist/mailbox_port.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "guest-module/uapi/vpatch_mailbox.h"
#include "introspect/kernel/modules.h"
#include "introspect/kernel/struct_copy.h"

namespace vpatch {
namespace {

constexpr std::chrono::seconds kGivenUp{1};
/// What was read of the mailbox allows to write for that long, a part of what the module promises:
/// a command begun then is written within twice that time, or not at all.
constexpr std::chrono::milliseconds kFresh{VPATCH_GRACE_MS / 4};
constexpr const char* kInstall =
    "Install and load the module vpatch_guest of this vpatch's version in the guest; "
    "guest-module/README.md tells how.";

}  // namespace

struct MailboxPort::Command {
  std::uint32_t command = VPATCH_COMMAND_NONE;
  std::uint32_t cpu = VPATCH_ANY_CPU;
  std::span<const std::uint32_t> cpus{};
};

Result<MailboxPort> MailboxPort::open(GuestView& view) {
  const introspect::GuestKernel& kernel = view.kernel();
  const auto modules = introspect::read_modules(kernel.memory(), kernel.layouts().modules);
  if (!modules) {
    return std::unexpected(from_introspect(modules.error()));
  }
  const auto address = introspect::find_mailbox(kernel, *modules);
  if (!address) {
    return fail(Outcome::unreachable, address.error().what, kInstall);
  }
  MailboxPort port(view, *address);
  if (auto read = port.refresh(); !read) {
    return std::unexpected(std::move(read.error()));
  }
  port.sequence_ = port.seen_.sequence;
  constexpr std::uint32_t kNeeded =
      VPATCH_FEATURE_RETRY | VPATCH_FEATURE_RESCHED | VPATCH_FEATURE_SIGNAL;
  if ((port.seen_.features & kNeeded) != kNeeded) {
    return fail(Outcome::unreachable, "vpatch_guest is told not to assist",
                "In the guest: echo 1 > /sys/module/vpatch_guest/parameters/assist");
  }
  const auto work = kernel.names().address_of("klp_transition_work");
  const auto signals = kernel.names().address_of("klp_signals_cnt");
  if (!work || !signals) {
    return fail(Outcome::unreachable,
                "this kernel has no livepatch transitions of the form known here");
  }
  port.work_ = *work;
  port.signals_ = *signals;
  return port;
}

Result<void> MailboxPort::refresh() {
  const auto before = std::chrono::steady_clock::now();
  auto seen = introspect::read_mailbox(view_->kernel().memory(), address_);
  if (!seen) {
    return fail(Outcome::unreachable, seen.error().what, kInstall);
  }
  seen_ = *std::move(seen);
  read_ = before;
  return {};
}

bool MailboxPort::outstanding() const {
  return seen_.acked != sequence_ && std::chrono::steady_clock::now() - sent_ < kGivenUp;
}

int MailboxPort::refused() const {
  const bool late = seen_.result == -EAGAIN || seen_.result == -ESTALE;
  return seen_.acked == sequence_ && seen_.result < 0 && !late ? -std::max(seen_.result, -4095) : 0;
}

Result<void> MailboxPort::retry(std::optional<std::uint32_t> cpu, const MailboxReport& report) {
  return send({.command = VPATCH_COMMAND_RETRY, .cpu = cpu.value_or(VPATCH_ANY_CPU)}, report);
}

Result<void> MailboxPort::resched(std::span<const std::uint32_t> cpus,
                                  const MailboxReport& report) {
  return send({.command = VPATCH_COMMAND_RESCHED, .cpus = cpus}, report);
}

Result<void> MailboxPort::signal(const MailboxReport& report) {
  return send({.command = VPATCH_COMMAND_SIGNAL}, report);
}

Result<void> MailboxPort::report(const MailboxReport& report) {
  return send({.command = VPATCH_COMMAND_REPORT}, report);
}

Result<void> MailboxPort::send(const Command& command, const MailboxReport& report) {
  // Once the module has gone, what lay in its page is somebody else's.
  if (std::chrono::steady_clock::now() - read_ > kFresh) {
    if (auto read = refresh(); !read) {
      return read;
    }
  }
  if (!listens()) {
    return {};
  }
  vpatch_host_half half{};
  half.command = command.command;
  half.cpu = command.cpu;
  half.switched = report.switched;
  half.last_pause_us = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(report.last_pause.count(), 0, UINT32_MAX));
  half.work = work_.value();
  half.signals = signals_.value();
  for (const std::uint32_t cpu : command.cpus) {
    if (cpu < VPATCH_MAX_CPUS) {
      half.cpus[cpu / 64] |= std::uint64_t{1} << (cpu % 64);
    }
  }
  const std::size_t size = std::min<std::size_t>(report.blockers.size(), VPATCH_MAX_TEXT);
  std::memcpy(half.text, report.blockers.data(), size);
  half.text_size = static_cast<std::uint32_t>(size);

  // All but the sequence number first; the module looks at nothing before that has changed.
  constexpr std::size_t kNumber = sizeof half.sequence;
  const auto bytes = std::as_bytes(std::span(&half, 1));
  const auto host = introspect::member_at(address_, offsetof(vpatch_mailbox, host));
  if (auto done = view_->write(introspect::member_at(host, kNumber), bytes.subspan(kNumber));
      !done) {
    return done;
  }
  if (++sequence_ == 0) {
    ++sequence_;
  }
  sent_ = std::chrono::steady_clock::now();
  if (sent_ - read_ > 2 * kFresh) {
    return fail(Outcome::unreachable, "the host was too slow to command the guest module");
  }
  return view_->write(host, std::as_bytes(std::span(&sequence_, 1)));
}

}  // namespace vpatch
