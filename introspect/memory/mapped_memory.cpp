// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/mapped_memory.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "introspect/memory/backing_file.h"
#include "introspect/memory/host_error.h"

namespace vpatch::introspect {

MappedMemory::Mapping::Mapping(UniqueMapping bytes)
    : bytes_(std::move(bytes)), known_((bytes_.size() / kPageSize + 63) / 64) {}

void MappedMemory::Mapping::learn(Pages pages) {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  for (std::uint64_t page = pages.first; page < pages.past;) {
    const std::uint64_t stop = std::min(pages.past, (page / 64 + 1) * 64);
    known_[page / 64] |= (kAll >> (64 - (stop - page))) << (page % 64);
    page = stop;
  }
}

std::uint64_t MappedMemory::Mapping::known_until(std::uint64_t page, std::uint64_t limit) const {
  while (page < limit) {
    const std::uint64_t unknown = ~known_[page / 64] >> (page % 64);
    if (unknown != 0) {
      return std::min(page + static_cast<std::uint64_t>(std::countr_zero(unknown)), limit);
    }
    page = (page / 64 + 1) * 64;
  }
  return limit;
}

void MappedMemory::Mapping::forget() {
  std::ranges::fill(known_, 0);
}

MappedMemory::MappedMemory(UniqueFd fd, RegionMap map) : fd_(std::move(fd)), map_(std::move(map)) {}

Result<void> MappedMemory::mappable(int fd) {
  struct statfs system{};
  if (::fstatfs(fd, &system) != 0) {
    return fail_errno("look at the file system of the RAM backing", errno);
  }
  // hugetlbfs says of its holes that they are data.
  if (system.f_type != TMPFS_MAGIC) {
    return fail(Errc::no_memory, "the RAM backing is not on tmpfs, so it may not be mapped");
  }
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return fail_errno("look at the seals of the RAM backing", errno);
  }
  if ((seals & F_SEAL_SHRINK) == 0) {
    return fail(Errc::no_memory,
                "the RAM backing is not sealed against shrinking, so it may not be mapped");
  }
  return {};
}

Result<MappedMemory> MappedMemory::create(UniqueFd fd, const std::vector<FileRegion>& regions) {
  if (regions.empty()) {
    return fail(Errc::no_memory, "the guest has no RAM region");
  }
  const auto size = readable_size(fd.get());
  if (!size) {
    return std::unexpected(size.error());
  }
  if (auto fine = mappable(fd.get()); !fine) {
    return std::unexpected(std::move(fine).error());
  }
  std::vector<PlacedRegion> placed;
  for (const FileRegion& region : regions) {
    if (region.file_offset % kPageSize != 0) {
      return fail(
          Errc::out_of_range,
          fmt::format("RAM region at {:#x} is not page-aligned in its file", region.start.value()));
    }
    placed.push_back({region.start, region.size, region.file_offset});
  }
  auto map = RegionMap::create(std::move(placed), *size);
  if (!map) {
    return std::unexpected(std::move(map).error());
  }
  MappedMemory memory(std::move(fd), *std::move(map));
  for (std::size_t region = 0; region < memory.regions().size(); ++region) {
    const std::uint64_t bytes = memory.regions()[region].size();
    UniqueMapping mapping(::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                                 memory.fd_.get(), static_cast<off_t>(memory.map_.place(region))),
                          bytes);
    if (!mapping) {
      return fail_errno("map the RAM backing", errno);
    }
    memory.mappings_.emplace_back(std::move(mapping));
  }
  return memory;
}

/// The first data of one region at or after `page`, as page numbers of the region; from then on it
/// is known.
Result<std::optional<MappedMemory::Pages>> MappedMemory::learn(std::size_t region,
                                                               std::uint64_t page) const {
  const std::uint64_t place = map_.place(region);
  const auto data =
      next_data(fd_.get(), place + page * kPageSize, place + regions()[region].size());
  if (!data) {
    return std::unexpected(data.error());
  }
  const auto& extent = *data;
  if (!extent) {
    return std::nullopt;
  }
  const Pages pages{(extent->start - place) / kPageSize,
                    (extent->end - place + kPageSize - 1) / kPageSize};
  mappings_[region].learn(pages);
  return pages;
}

Result<void> MappedMemory::read(GuestPhysAddr address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto found = map_.find(address);
    if (!found) {
      return no_ram_at(address);
    }
    const Mapping& mapping = mappings_[found->region];
    const auto wanted = std::min<std::uint64_t>(into.size(), found->left);
    const std::uint64_t page = found->offset / kPageSize;
    const std::uint64_t limit = (found->offset + wanted + kPageSize - 1) / kPageSize;
    const std::uint64_t known = mapping.known_until(page, limit) * kPageSize;
    std::uint64_t size = 0;
    if (known > found->offset) {
      // The guest may write these bytes meanwhile. The mapping belongs to no C++ object, the copy
      // may be torn as the contract says, and nothing is read twice.
      size = std::min(wanted, known - found->offset);
      std::memcpy(into.data(), mapping.at(found->offset), size);
    } else {
      const std::uint64_t place = found->place / kPageSize * kPageSize;
      const auto data = data_start(fd_.get(), place, found->place + wanted);
      if (!data) {
        return std::unexpected(data.error());
      }
      const std::optional<std::uint64_t> start = *data;
      if (start && *start <= found->place) {
        // Only this page: how far its data goes would take the kernel a look at all of it.
        mappings_[found->region].learn({page, page + 1});
        continue;
      }
      size = start ? *start - found->place : wanted;
      std::memset(into.data(), 0, size);
    }
    into = into.subspan(size);
    address = GuestPhysAddr(address.value() + size);
  }
  return {};
}

Result<std::optional<PhysRange>> MappedMemory::next_populated(GuestPhysAddr from) const {
  const GuestPhysAddr first(from.value() / kPageSize * kPageSize);
  const auto ranges = regions();
  for (std::size_t region = 0; region < ranges.size(); ++region) {
    const GuestPhysAddr start = ranges[region].start();
    if (ranges[region].end() <= first) {
      continue;
    }
    const std::uint64_t page = first.offset_from(start).value_or(0) / kPageSize;
    const std::uint64_t known =
        mappings_[region].known_until(page, ranges[region].size() / kPageSize);
    Result<std::optional<Pages>> data = Pages{page, known};
    if (known == page) {
      data = learn(region, page);
    }
    if (!data) {
      return std::unexpected(data.error());
    }
    if (const std::optional<Pages>& pages = *data) {
      return PhysRange::between(GuestPhysAddr(start.value() + pages->first * kPageSize),
                                GuestPhysAddr(start.value() + pages->past * kPageSize));
    }
  }
  return std::nullopt;
}

void MappedMemory::forget() {
  for (Mapping& mapping : mappings_) {
    mapping.forget();
  }
}

}  // namespace vpatch::introspect
