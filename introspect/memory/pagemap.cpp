// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/pagemap.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "introspect/memory/host_error.h"

namespace vpatch::introspect {
namespace {

constexpr std::uint64_t kMostEntries = 32768;  // 128 MiB of the process, 256 KiB to hold
constexpr std::uint64_t kExists = std::uint64_t{3} << 62U;  // present, or swapped

bool exists(std::uint64_t entry) {
  return (entry & kExists) != 0;
}

}  // namespace

Pagemap::Pagemap(UniqueFd fd) : fd_(std::move(fd)) {}

Result<Pagemap> Pagemap::open(pid_t pid) {
  UniqueFd fd(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return fail_errno(fmt::format("open the page map of process {}", pid), errno);
  }
  return Pagemap(std::move(fd));
}

Result<void> Pagemap::load(HostAddr from, HostAddr end) const {
  const std::uint64_t pages = HostRange::between(from, end).size() / kPageSize;
  entries_.resize(std::min(pages, kMostEntries));
  held_ = {};
  auto left = std::as_writable_bytes(std::span(entries_));
  std::uint64_t at = from.value() / kPageSize * sizeof(std::uint64_t);
  while (!left.empty()) {
    const ssize_t got = ::pread(fd_.get(), left.data(), left.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return fail_errno("read the page map", errno);
    }
    if (got == 0) {
      return fail(Errc::io, "read the page map: the process has ended");
    }
    left = left.subspan(static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
  }
  held_ = HostRange::between(from, HostAddr(from.value() + entries_.size() * kPageSize));
  return {};
}

Result<std::optional<HostRange>> Pagemap::next_run(HostAddr from, HostAddr end) const {
  // Old entries only serve a walk that goes on where it was: a new walk sees what is now.
  if (from != continue_at_) {
    held_ = {};
  }
  while (from < end) {
    if (!held_.holds(from, kPageSize)) {
      if (auto done = load(from, end); !done) {
        return std::unexpected(std::move(done).error());
      }
    }
    const std::uint64_t first = (from.value() - held_.start().value()) / kPageSize;
    const std::uint64_t stop =
        HostRange::between(held_.start(), std::min(held_.end(), end)).size() / kPageSize;
    const auto entries = std::span(entries_).first(stop);
    const auto start = std::ranges::find_if(entries.subspan(first), exists);
    const auto run_end = std::find_if_not(start, entries.subspan(first).end(), exists);
    const auto address_of = [&](auto entry) {
      const auto skipped = static_cast<std::uint64_t>(entry - entries.subspan(first).begin());
      return HostAddr(from.value() + skipped * kPageSize);
    };
    if (start != run_end) {
      continue_at_ = address_of(run_end);
      return HostRange::between(address_of(start), continue_at_);
    }
    from = HostAddr(held_.start().value() + stop * kPageSize);
  }
  return std::nullopt;
}

Result<bool> Pagemap::all_exist(HostRange pages) const {
  held_ = {};  // never from what an earlier walk has read
  for (HostAddr at = pages.start(); at < pages.end();) {
    const auto run = next_run(at, pages.end());
    if (!run) {
      return std::unexpected(run.error());
    }
    const auto& found = *run;
    if (!found || found->start() != at) {
      return false;
    }
    at = found->end();
  }
  return true;
}

}  // namespace vpatch::introspect
