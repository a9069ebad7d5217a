// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace vpatch::fuzz {

using Bytes = std::vector<std::byte>;

/// What must hold for any input.
inline void require(bool holds, std::source_location where = std::source_location::current()) {
  if (!holds) {
    std::clog << where.file_name() << ':' << where.line() << ": does not hold" << std::endl;
    std::abort();
  }
}

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as characters
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Bytes to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Takes a fuzzer's input apart from the front; past its end everything is zero.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
    requires std::is_trivially_copyable_v<T>
  T take() {
    T value{};
    const auto bytes = take_bytes(sizeof(T));
    if (!bytes.empty()) {
      std::memcpy(&value, bytes.data(), bytes.size());
    }
    return value;
  }

  /// At most `size` bytes, fewer at the end.
  std::span<const std::byte> take_bytes(std::size_t size) {
    const auto bytes = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }

  std::span<const std::byte> rest() const { return rest_; }

 private:
  std::span<const std::byte> rest_;
};

/// Puts a seed together, to be taken apart by Input.
class Output {
 public:
  template <class T>
    requires std::is_trivially_copyable_v<T>
  Output& put(const T& value) {
    return put_bytes(std::as_bytes(std::span(&value, 1)));
  }
  Output& put_bytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

/// The fuzzer's good inputs, to start from. Each program defines it; `fuzz_X` run with
/// VPATCH_FUZZ_SEEDS=FOLDER writes them there and ends.
std::vector<Bytes> seeds();

}  // namespace vpatch::fuzz
