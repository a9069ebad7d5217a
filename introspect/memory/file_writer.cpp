// SPDX-License-Identifier: Apache-2.0
#include "introspect/memory/file_writer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "introspect/memory/backing_file.h"
#include "introspect/memory/host_error.h"
#include "introspect/memory/store_bytes.h"

namespace vpatch::introspect {

Result<std::vector<FileWriter::Piece>> FileWriter::split(const RegionMap& map,
                                                         GuestPhysAddr address,
                                                         std::span<const std::byte> bytes) {
  std::vector<Piece> pieces;
  while (!bytes.empty()) {
    const auto found = map.find(address);
    if (!found) {
      return no_ram_at(address);
    }
    const auto size = std::min({static_cast<std::uint64_t>(bytes.size()), found->left,
                                kPageSize - found->place % kPageSize});
    pieces.push_back({address, found->place, bytes.first(size)});
    bytes = bytes.subspan(size);
    address = GuestPhysAddr(address.value() + size);
  }
  return pieces;
}

Result<void> FileWriter::open(int fd) {
  if (fd_) {
    return {};
  }
  struct statfs system{};
  if (::fstatfs(fd, &system) != 0) {
    return fail_errno("look at the file system of the RAM backing", errno);
  }
  UniqueFd opened(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDWR | O_CLOEXEC));
  if (!opened) {
    return fail_errno("open the RAM backing for writing", errno);
  }
  huge_ = system.f_type == HUGETLBFS_MAGIC;
  page_size_ = huge_ ? static_cast<std::uint64_t>(system.f_bsize) : kPageSize;
  windows_.reserve(kMostPages);
  fd_ = std::move(opened);
  return {};
}

/// Whether the page of the guest that `place` lies in has been made.
Result<bool> FileWriter::exists(int fd, std::uint64_t place) const {
  const std::uint64_t page = place / kPageSize * kPageSize;
  if (!huge_) {
    const auto data = data_start(fd, page, page + kPageSize);
    if (!data) {
      return std::unexpected(data.error());
    }
    return *data == page;
  }
  std::array<std::byte, kPageSize> bytes{};
  if (::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(page)) < 0) {
    return fail_errno("look at a page of the RAM backing", errno);
  }
  return std::ranges::any_of(bytes, [](std::byte byte) { return byte != std::byte{0}; });
}

/// Where this process has the file's byte at `place`.
Result<std::byte*> FileWriter::writable(std::uint64_t place) {
  const std::uint64_t start = place / page_size_ * page_size_;
  auto window = std::ranges::find(windows_, start, &Window::start);
  if (window == windows_.end()) {
    UniqueMapping bytes(::mmap(nullptr, page_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(),
                               static_cast<off_t>(start)),
                        page_size_);
    if (!bytes) {
      return fail_errno("map a page of the RAM backing for writing", errno);
    }
    if (windows_.size() < kMostPages) {
      window = windows_.insert(windows_.end(), Window{start, std::move(bytes)});
    } else {
      window = windows_.begin() + static_cast<std::ptrdiff_t>(next_);
      next_ = (next_ + 1) % kMostPages;
      *window = Window{start, std::move(bytes)};
    }
  }
  return window->bytes.start() + (place - start);
}

Result<void> FileWriter::write(int fd, const RegionMap& map, GuestPhysAddr address,
                               std::span<const std::byte> bytes) {
  const auto pieces = split(map, address, bytes);
  if (!pieces) {
    return std::unexpected(pieces.error());
  }
  if (pieces->empty()) {
    return {};
  }
  if (auto done = open(fd); !done) {
    return done;
  }
  for (const Piece& piece : *pieces) {
    const auto there = exists(fd, piece.place);
    if (!there) {
      return std::unexpected(there.error());
    }
    if (!*there) {
      return never_touched(piece.address);
    }
  }
  for (const Piece& piece : *pieces) {
    const auto to = writable(piece.place);
    if (!to) {
      return std::unexpected(to.error());
    }
    store_bytes(*to, piece.bytes);
  }
  return {};
}

}  // namespace vpatch::introspect
