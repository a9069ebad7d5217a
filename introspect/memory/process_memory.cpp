// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/process_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "introspect/memory/host_error.h"

namespace vpatch::introspect {
namespace {

constexpr std::size_t kMostTransfers = 1024;                      // IOV_MAX
constexpr std::size_t kMostBytes = std::size_t{512} << 20U;       // a call moves less than 2 GiB
constexpr std::size_t kMostAtOnce = kMostBytes / kMostTransfers;  // of one transfer

std::unexpected<Error> refused(pid_t pid, std::string_view attempted, int error) {
  if (error == EPERM || error == EACCES) {
    return fail(Errc::permission,
                fmt::format("{} of process {}: the host refuses; run as root or with "
                            "CAP_SYS_PTRACE (as the VMM's own user only where "
                            "/proc/sys/kernel/yama/ptrace_scope is 0)",
                            attempted, pid),
                error);
  }
  if (error == ESRCH || error == ENOENT) {
    return fail(Errc::io, fmt::format("{} of process {}: it has ended", attempted, pid), ESRCH);
  }
  return fail_errno(fmt::format("{} of process {}", attempted, pid), error);
}

/// Whether the process a pidfd is of has not ended.
bool alive(int pidfd) {
  pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 0;
}

}  // namespace

ProcessMemory::ProcessMemory(pid_t pid, UniqueFd pidfd, UniqueFd mem, Pagemap pagemap,
                             RegionMap map)
    : pid_(pid),
      pidfd_(std::move(pidfd)),
      mem_(std::move(mem)),
      pagemap_(std::move(pagemap)),
      map_(std::move(map)) {
  forget();
}

Result<ProcessMemory> ProcessMemory::create(pid_t pid, const std::vector<ProcessRegion>& regions) {
  std::vector<PlacedRegion> placed;
  for (const ProcessRegion& region : regions) {
    if (region.host.value() % kPageSize != 0) {
      return fail(
          Errc::out_of_range,
          fmt::format("RAM region at {:#x} is not page-aligned in the VMM", region.start.value()));
    }
    placed.push_back({region.start, region.size, region.host.value()});
  }
  auto map = RegionMap::create(std::move(placed), std::numeric_limits<std::uint64_t>::max());
  if (!map) {
    return std::unexpected(std::move(map).error());
  }
  // glibc 2.36 declares pidfd_open() for C only.
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    return refused(pid, "look at the RAM", errno);
  }
  // Opening this asks for the same rights as process_vm_readv().
  UniqueFd mem(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!mem) {
    return refused(pid, "read the RAM", errno);
  }
  auto pagemap = Pagemap::open(pid);
  if (!pagemap) {
    return std::unexpected(std::move(pagemap).error());
  }
  if (!alive(pidfd.get())) {
    return refused(pid, "look at the RAM", ESRCH);
  }
  return ProcessMemory(pid, std::move(pidfd), std::move(mem), *std::move(pagemap), *std::move(map));
}

/// Appends the transfers that make up `read`; false, appending none, when part of it is not RAM.
bool ProcessMemory::split(const PhysRead& read, std::size_t owner,
                          std::vector<Transfer>& into) const {
  const std::size_t before = into.size();
  GuestPhysAddr address = read.address;
  for (auto left = read.into; !left.empty();) {
    const auto found = map_.find(address);
    if (!found) {
      into.resize(before);
      return false;
    }
    const auto part =
        left.first(std::min({static_cast<std::uint64_t>(left.size()), found->left, kMostAtOnce}));
    into.push_back({HostAddr(found->place), part, owner});
    left = left.subspan(part.size());
    address = GuestPhysAddr(address.value() + part.size());
  }
  return true;
}

void ProcessMemory::transfer(Transfer& one) const {
  auto left = one.into;
  auto from = static_cast<off_t>(one.from.value());
  while (!left.empty()) {
    const ssize_t got = ::pread(mem_.get(), left.data(), left.size(), from);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      one.failed = got < 0 ? errno : ESRCH;  // 0 when the process has no memory any more
      return;
    }
    left = left.subspan(static_cast<std::size_t>(got));
    from += got;
  }
}

/// At most kMostTransfers. A transfer that fails ends the system call, and the rest is tried again.
void ProcessMemory::transfer_together(std::span<Transfer> all) const {
  std::array<iovec, kMostTransfers> local;
  std::array<iovec, kMostTransfers> remote;
  for (std::size_t index = 0; index < all.size(); ++index) {
    const Transfer& one = all[index];
    local[index] = {one.into.data(), one.into.size()};
    // The kernel wants its type for it; it is never followed here.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    remote[index] = {reinterpret_cast<void*>(one.from.value()), one.into.size()};
  }
  for (std::size_t next = 0; next < all.size();) {
    const ssize_t got = ::process_vm_readv(pid_, &local[next], all.size() - next, &remote[next],
                                           all.size() - next, 0);
    const int error = got < 0 ? errno : EFAULT;
    auto moved = got < 0 ? std::size_t{0} : static_cast<std::size_t>(got);
    while (next < all.size() && all[next].into.size() <= moved) {
      moved -= all[next++].into.size();
    }
    if (next == all.size()) {
      break;
    }
    if (error != EFAULT) {
      std::ranges::for_each(all.subspan(next), [&](Transfer& one) { one.failed = error; });
      break;
    }
    all[next++].failed = error;
  }
  // Only now it is sure that what was read is of the process meant, and not of the next of this id.
  if (!alive(pidfd_.get())) {
    std::ranges::for_each(all, [](Transfer& one) { one.failed = ESRCH; });
  }
}

Result<void> ProcessMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  std::vector<Transfer> all;
  if (!split({address, into}, 0, all)) {
    return no_ram_at(address);
  }
  for (Transfer& one : all) {
    transfer(one);
    if (one.failed != 0) {
      return refused(pid_, fmt::format("read guest RAM at {:#x}", address.value()), one.failed);
    }
  }
  return {};
}

void ProcessMemory::read_many(std::span<PhysRead> reads) const {
  std::vector<Transfer> all;
  all.reserve(kMostTransfers);
  for (std::size_t next = 0; next < reads.size();) {
    all.clear();
    while (next < reads.size() && all.size() < kMostTransfers) {
      reads[next].done = split(reads[next], next, all);
      ++next;
    }
    for (std::size_t at = 0; at < all.size() && !merged_; at += kMostTransfers) {
      transfer_together(std::span(all).subspan(at, std::min(kMostTransfers, all.size() - at)));
    }
    for (std::size_t at = 0; at < all.size() && merged_; ++at) {
      transfer(all[at]);
    }
    for (const Transfer& one : all) {
      if (one.failed != 0) {
        reads[one.owner].done = false;
      }
    }
  }
}

Result<void> ProcessMemory::open_writable() {
  if (writable_) {
    return {};
  }
  UniqueFd mem(::open(fmt::format("/proc/{}/mem", pid_).c_str(), O_RDWR | O_CLOEXEC));
  if (!mem) {
    return refused(pid_, "write the RAM", errno);
  }
  // Only now it is sure that what was opened is of the process meant, and not of the next of its
  // id.
  if (!alive(pidfd_.get())) {
    return refused(pid_, "write the RAM", ESRCH);
  }
  writable_ = std::move(mem);
  return {};
}

Result<void> ProcessMemory::write(GuestPhysAddr address, std::span<const std::byte> bytes) {
  struct Piece {
    HostAddr to;
    std::span<const std::byte> bytes;
  };
  std::vector<Piece> pieces;
  for (GuestPhysAddr at = address; !bytes.empty();) {
    const auto found = map_.find(at);
    if (!found) {
      return no_ram_at(at);
    }
    const auto size = std::min<std::uint64_t>(bytes.size(), found->left);
    const HostAddr first(found->place / kPageSize * kPageSize);
    const HostAddr past((found->place + size + kPageSize - 1) / kPageSize * kPageSize);
    const auto there = pagemap_.all_exist(HostRange::between(first, past));
    if (!there) {
      return std::unexpected(there.error());
    }
    if (!*there) {
      return never_touched(at);
    }
    pieces.push_back({HostAddr(found->place), bytes.first(size)});
    bytes = bytes.subspan(size);
    at = GuestPhysAddr(at.value() + size);
  }
  if (auto done = pieces.empty() ? Result<void>{} : open_writable(); !done) {
    return done;
  }
  for (Piece& piece : pieces) {
    while (!piece.bytes.empty()) {
      const ssize_t put = ::pwrite(writable_.get(), piece.bytes.data(), piece.bytes.size(),
                                   static_cast<off_t>(piece.to.value()));
      if (put < 0 && errno == EINTR) {
        continue;
      }
      if (put <= 0) {
        return refused(pid_, fmt::format("write guest RAM at {:#x}", address.value()),
                       put < 0 ? errno : ESRCH);
      }
      piece.bytes = piece.bytes.subspan(static_cast<std::size_t>(put));
      piece.to = HostAddr(piece.to.value() + static_cast<std::uint64_t>(put));
    }
  }
  return {};
}

Result<std::optional<PhysRange>> ProcessMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr page(from.value() / kPageSize * kPageSize);
  const auto ranges = regions();
  for (std::size_t region = 0; region < ranges.size(); ++region) {
    const PhysRange& range = ranges[region];
    if (range.end() <= page) {
      continue;
    }
    const std::uint64_t place = map_.place(region);
    const auto offset = page.offset_from(range.start()).value_or(0);
    const auto run = pagemap_.next_run(HostAddr(place + offset), HostAddr(place + range.size()));
    if (!run) {
      return std::unexpected(run.error());
    }
    if (const auto& found = *run) {
      const std::uint64_t first = found->start().value() - place;
      return PhysRange::between(GuestPhysAddr(range.start().value() + first),
                                GuestPhysAddr(range.start().value() + first + found->size()));
    }
  }
  return std::nullopt;
}

void ProcessMemory::forget() {
  const UniqueFd pages(
      ::open(fmt::format("/proc/{}/ksm_merging_pages", pid_).c_str(), O_RDONLY | O_CLOEXEC));
  char digit = '0';  // no such file: no KSM
  merged_ = pages && ::read(pages.get(), &digit, 1) == 1 && digit != '0';
}

}  // namespace vpatch::introspect
