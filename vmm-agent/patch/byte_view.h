// SPDX-License-Identifier: Apache-2.0
// The one place that answers "does this lie inside the file" for the readers of a module. The bytes
// belong to the caller and must outlive the view.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace vpatch {

class ByteView {
 public:
  ByteView() = default;
  explicit ByteView(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }

  bool fits(std::uint64_t offset, std::uint64_t length) const {
    return length <= size() && offset <= size() - length;
  }

  std::optional<ByteView> slice(std::uint64_t offset, std::uint64_t length) const {
    if (!fits(offset, length)) return std::nullopt;
    return ByteView(bytes_.subspan(offset, length));
  }

  /// A copy of the `T` at `offset`, which need not be aligned. Little-endian, as the host is.
  template <class T>
  std::optional<T> read(std::uint64_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (!fits(offset, sizeof(T))) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }

  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

  /// The string at `offset` without its NUL; nothing when it does not end inside the view.
  std::optional<std::string_view> c_string(std::uint64_t offset) const {
    if (offset >= size()) return std::nullopt;
    const auto tail = text().substr(offset);
    const auto end = tail.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    return tail.substr(0, end);
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace vpatch
