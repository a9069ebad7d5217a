// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>

#include <sys/mman.h>

namespace vpatch::introspect {

/// Owns what mmap() returned and unmaps it. Not thread-safe, as any owner.
class UniqueMapping {
 public:
  UniqueMapping() = default;
  /// `start` may be MAP_FAILED: then nothing is owned.
  UniqueMapping(void* start, std::size_t size)
      : start_(start == MAP_FAILED ? nullptr : static_cast<std::byte*>(start)), size_(size) {}
  UniqueMapping(UniqueMapping&& other) noexcept
      : start_(std::exchange(other.start_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  UniqueMapping& operator=(UniqueMapping&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(size_, other.size_);
    return *this;
  }
  UniqueMapping(const UniqueMapping&) = delete;
  UniqueMapping& operator=(const UniqueMapping&) = delete;
  ~UniqueMapping() {
    if (start_ != nullptr) {
      ::munmap(start_, size_);
    }
  }

  explicit operator bool() const { return start_ != nullptr; }
  std::byte* start() const { return start_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* start_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace vpatch::introspect
