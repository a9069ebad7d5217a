// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/file_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "introspect/memory/backing_file.h"
#include "introspect/memory/host_error.h"

namespace vpatch::introspect {
namespace {

// Copying what lies between two reads costs less than another system call.
constexpr std::uint64_t kMostGap = kPageSize;
constexpr std::size_t kMostAtOnce = std::size_t{256} << 10U;

}  // namespace

FileMemory::FileMemory(UniqueFd fd, RegionMap map, FileUse use)
    : fd_(std::move(fd)), map_(std::move(map)), use_(use) {}

Result<FileMemory> FileMemory::create(UniqueFd fd, const std::vector<FileRegion>& regions,
                                      FileUse use) {
  if (regions.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  const auto size = readable_size(fd.get());
  if (!size) {
    return std::unexpected(size.error());
  }
  std::vector<PlacedRegion> placed;
  placed.reserve(regions.size());
  for (const FileRegion& region : regions) {
    placed.push_back({region.start, region.size, region.file_offset});
  }
  auto map = RegionMap::create(std::move(placed), *size);
  if (!map) {
    return std::unexpected(std::move(map).error());
  }
  return FileMemory(std::move(fd), *std::move(map), use);
}

Result<void> FileMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto found = map_.find(address);
    if (!found) {
      return no_ram_at(address);
    }
    const auto wanted = std::min<std::uint64_t>(into.size(), found->left);
    // The map has shown that the whole region lies in the file, so this fits off_t.
    const ssize_t got = ::pread(fd_.get(), into.data(), wanted, static_cast<off_t>(found->place));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return fail_errno(fmt::format("read guest RAM at {:#x}", address.value()), errno);
    }
    if (got == 0) {
      return fail(Errc::io, fmt::format("read guest RAM at {:#x}: the backing file has shrunk",
                                        address.value()));
    }
    into = into.subspan(static_cast<std::size_t>(got));
    // Inside or at the end of a region, whose end fits 64 bits.
    address = GuestPhysAddr(address.value() + static_cast<std::uint64_t>(got));
  }
  return {};
}

Result<void> FileMemory::write(GuestPhysAddr address, std::span<const std::byte> bytes) {
  return use_ == FileUse::core ? GuestMemory::write(address, bytes)
                               : writer_.write(fd_.get(), map_, address, bytes);
}

/// How many reads from `first` on follow each other so closely in the file that one system call for
/// all of them is cheaper; 1 when there is nothing to gain.
std::size_t FileMemory::run_of(std::span<const PhysRead> reads, Run& run) const {
  const auto start = map_.find(reads.front().address);
  if (!start || reads.front().into.size() > start->left) {
    return 1;
  }
  run = {start->place, reads.front().into.size()};
  const std::uint64_t most = std::min<std::uint64_t>(start->left, kMostAtOnce);
  std::size_t count = 1;
  for (; count < reads.size(); ++count) {
    const auto offset = reads[count].address.offset_from(reads.front().address);
    const std::size_t size = reads[count].into.size();
    if (!offset || *offset < run.size || *offset - run.size > kMostGap || *offset > most ||
        size > most - *offset) {
      break;
    }
    run.size = *offset + size;
  }
  return count;
}

void FileMemory::read_many(std::span<PhysRead> reads) const {
  std::vector<std::byte> buffer;
  while (!reads.empty()) {
    Run run;
    const auto some = reads.first(run_of(reads, run));
    reads = reads.subspan(some.size());
    buffer.resize(some.size() > 1 ? std::max<std::size_t>(buffer.size(), kMostAtOnce)
                                  : buffer.size());
    if (some.size() == 1 ||
        ::pread(fd_.get(), buffer.data(), run.size, static_cast<off_t>(run.place)) !=
            static_cast<ssize_t>(run.size)) {
      GuestMemory::read_many(some);
      continue;
    }
    for (PhysRead& one : some) {
      const std::uint64_t offset = one.address.value() - some.front().address.value();
      std::ranges::copy(std::span(buffer).subspan(offset, one.into.size()), one.into.begin());
      one.done = true;
    }
  }
}

Result<std::optional<PhysRange>> FileMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr page(from.value() / kPageSize * kPageSize);
  const auto ranges = map_.ranges();
  for (std::size_t region = 0; region < ranges.size(); ++region) {
    const PhysRange& range = ranges[region];
    if (range.end() <= page) {
      continue;
    }
    const std::uint64_t place = map_.place(region);
    const auto offset = page.offset_from(range.start()).value_or(0);
    const auto data = next_data(fd_.get(), place + offset, place + range.size());
    if (!data) {
      return std::unexpected(data.error());
    }
    if (const std::optional<FileExtent>& extent = *data) {
      // Pages are counted from the region's start, which may lie anywhere in a page of the file.
      const std::uint64_t first = (extent->start - place) / kPageSize * kPageSize;
      const std::uint64_t past = (extent->end - place + kPageSize - 1) / kPageSize * kPageSize;
      return PhysRange::between(GuestPhysAddr(range.start().value() + first),
                                GuestPhysAddr(range.start().value() + past));
    }
  }
  return std::nullopt;
}

}  // namespace vpatch::introspect
