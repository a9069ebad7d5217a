// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "introspect/error.h"
#include "introspect/memory/region_map.h"
#include "introspect/memory/unique_fd.h"
#include "introspect/memory/unique_mapping.h"

namespace vpatch::introspect {

/// Writes to the file that a guest's RAM is, through mappings of single pages: that is one store
/// for an aligned word, and hugetlbfs knows no write(2). Holds nothing writable before the first
/// write, and at most kMostPages pages (of the file system's size) after it.
///
/// A page is touched only once the file shows data there, asked anew for each write; a hole is
/// refused. hugetlbfs does not tell its holes: there a page of zeros is taken for one. Between that
/// look and the store the page may be given back; it then comes into being again, zeroed but for
/// what was written. A file that shrinks just then ends the writer with SIGBUS.
///
/// One thread at a time.
class FileWriter {
 public:
  static constexpr std::size_t kMostPages = 16;

  /// Writes `bytes` from `address` on, where `map` has places in the file behind `fd`, by the rules
  /// of GuestMemory::write(). `fd` is the same in each call; it need not be writable, but must be
  /// of a file that may be opened for writing.
  Result<void> write(int fd, const RegionMap& map, GuestPhysAddr address,
                     std::span<const std::byte> bytes);

 private:
  /// What lies in one page of the guest.
  struct Piece {
    GuestPhysAddr address;
    std::uint64_t place = 0;
    std::span<const std::byte> bytes;
  };
  /// One page of the file.
  struct Window {
    std::uint64_t start = 0;
    UniqueMapping bytes;
  };

  static Result<std::vector<Piece>> split(const RegionMap& map, GuestPhysAddr address,
                                          std::span<const std::byte> bytes);
  Result<void> open(int fd);
  Result<bool> exists(int fd, std::uint64_t place) const;
  Result<std::byte*> writable(std::uint64_t place);

  UniqueFd fd_;  // of the same file, for reading and writing
  bool huge_ = false;
  std::uint64_t page_size_ = 0;
  std::vector<Window> windows_;
  std::size_t next_ = 0;  // the window that has been there longest
};

}  // namespace vpatch::introspect
