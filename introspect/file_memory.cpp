// SPDX-License-Identifier: Apache-2.0
#include "introspect/file_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace vpatch::introspect {
namespace {

using FileOffset = Address<struct FileSpace>;
using FileRange = AddressRange<FileOffset>;

std::unexpected<Error> fail_errno(std::string_view attempted, int error) {
  const Errc code = error == EACCES || error == EPERM ? Errc::permission : Errc::io;
  return fail(code, fmt::format("{}: {}", attempted, std::generic_category().message(error)),
              error);
}

/// The size of the file behind `fd`, which must be a regular one, open for reading.
Result<std::uint64_t> readable_size(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return fail_errno("look at the RAM backing file", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(Errc::no_memory, "the RAM backing is not a regular file");
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) {
    return fail_errno("look at the RAM backing file", errno);
  }
  if ((flags & O_ACCMODE) == O_WRONLY) {
    return fail(Errc::permission, "the RAM backing file is not open for reading", EBADF);
  }
  return static_cast<std::uint64_t>(status.st_size);
}

/// One region where it lies in the guest and in the file.
struct Placed {
  PhysRange guest;
  FileRange file;
};

Result<Placed> place(const FileRegion& region, std::uint64_t file_size) {
  const auto bad = [&](std::string_view why) {
    return fail(Errc::out_of_range,
                fmt::format("RAM region {:#x} + {:#x} at file offset {:#x} {}",
                            region.start.value(), region.size, region.file_offset, why));
  };
  if (region.size == 0) {
    return bad("is empty");
  }
  if ((region.start.value() | region.size | region.file_offset) % kPageSize != 0) {
    return bad("is not page-aligned");
  }
  const auto guest = PhysRange::make(region.start, region.size);
  const auto file = FileRange::make(FileOffset(region.file_offset), region.size);
  if (!guest || !file) {
    return bad("runs past 64 bits");
  }
  if (file->end() > FileOffset(file_size)) {
    return bad(fmt::format("runs past the file's {:#x} bytes", file_size));
  }
  return Placed{*guest, *file};
}

/// Whether any two of `ranges`, in rising order of start, overlap.
template <class Range>
bool any_overlap(const std::vector<Range>& ranges) {
  return std::ranges::adjacent_find(ranges, [](const Range& low, const Range& high) {
           return low.overlaps(high);
         }) != ranges.end();
}

}  // namespace

FileMemory::FileMemory(UniqueFd fd, std::vector<PhysRange> ranges,
                       std::vector<std::uint64_t> offsets)
    : fd_(std::move(fd)), ranges_(std::move(ranges)), offsets_(std::move(offsets)) {}

Result<FileMemory> FileMemory::create(UniqueFd fd, std::vector<FileRegion> regions) {
  if (regions.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  const auto file_size = readable_size(fd.get());
  if (!file_size) {
    return std::unexpected(file_size.error());
  }

  std::ranges::sort(regions, {}, &FileRegion::start);
  std::vector<PhysRange> ranges;
  std::vector<std::uint64_t> offsets;
  std::vector<FileRange> in_file;
  for (const FileRegion& region : regions) {
    const auto placed = place(region, *file_size);
    if (!placed) {
      return std::unexpected(placed.error());
    }
    ranges.push_back(placed->guest);
    offsets.push_back(region.file_offset);
    in_file.push_back(placed->file);
  }
  std::ranges::sort(in_file, {}, &FileRange::start);
  if (any_overlap(ranges)) {
    return fail(Errc::out_of_range, "RAM regions overlap in the guest");
  }
  if (any_overlap(in_file)) {
    return fail(Errc::out_of_range, "RAM regions overlap in the backing file");
  }
  return FileMemory(std::move(fd), std::move(ranges), std::move(offsets));
}

Result<void> FileMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto after = std::ranges::upper_bound(ranges_, address, {}, &PhysRange::start);
    if (after == ranges_.begin() || !std::prev(after)->holds(address, 1)) {
      return fail(Errc::out_of_range, fmt::format("no guest RAM at {:#x}", address.value()));
    }
    const auto region = static_cast<std::size_t>(after - ranges_.begin()) - 1;
    const std::uint64_t offset = address.value() - ranges_[region].start().value();
    const auto wanted = std::min<std::uint64_t>(into.size(), ranges_[region].size() - offset);
    // create() has shown that the whole region lies in the file, so this fits off_t.
    const ssize_t got =
        ::pread(fd_.get(), into.data(), wanted, static_cast<off_t>(offsets_[region] + offset));
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

Result<std::optional<PhysRange>> FileMemory::next_data(std::size_t region,
                                                       std::uint64_t offset) const {
  const PhysRange& range = ranges_[region];
  const auto file_start = static_cast<off_t>(offsets_[region]);
  const auto file_end = file_start + static_cast<off_t>(range.size());
  const auto from = file_start + static_cast<off_t>(offset);
  off_t data = ::lseek(fd_.get(), from, SEEK_DATA);
  off_t hole = file_end;
  if (data >= 0) {
    if (data >= file_end) {
      return std::nullopt;
    }
    hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    // The data may have been given back between the two calls; one page is then looked at in vain.
    hole = std::clamp(hole, data + 1, file_end);
  } else if (errno == ENXIO) {
    return std::nullopt;
  } else if (errno == EINVAL || errno == EOPNOTSUPP) {
    data = from;  // a file system that does not know holes: all is data
  } else {
    return fail_errno("look for data in the RAM backing file", errno);
  }
  // The region is page-aligned in the guest and in the file, so pages are the same in both.
  const auto first = static_cast<std::uint64_t>(data - file_start) / kPageSize * kPageSize;
  const auto past =
      (static_cast<std::uint64_t>(hole - file_start) + kPageSize - 1) / kPageSize * kPageSize;
  return PhysRange::between(GuestPhysAddr(range.start().value() + first),
                            GuestPhysAddr(range.start().value() + past));
}

Result<std::optional<PhysRange>> FileMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr page(from.value() / kPageSize * kPageSize);
  for (std::size_t region = 0; region < ranges_.size(); ++region) {
    if (ranges_[region].end() <= page) {
      continue;
    }
    auto data = next_data(region, page.offset_from(ranges_[region].start()).value_or(0));
    if (!data || *data) {
      return data;
    }
  }
  return std::nullopt;
}

}  // namespace vpatch::introspect
