// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace vpatch::introspect {

/// The kinds of BTF types and their numbers (Documentation/bpf/btf.rst, section 2.2).
enum class BtfKind : std::uint8_t {
  void_type,  ///< type 0, which has no record
  integer,
  pointer,
  array,
  structure,
  union_type,
  enumeration,
  forward,
  type_definition,
  volatile_type,
  const_type,
  restrict_type,
  function,
  function_prototype,
  variable,
  data_section,
  floating,
  declaration_tag,
  type_tag,
  enumeration64,
};
inline constexpr std::uint32_t kLastBtfKind = 19;

inline constexpr std::size_t kBtfTypeSize = 12;          ///< struct btf_type
inline constexpr std::size_t kBtfMemberSize = 12;        ///< struct btf_member
inline constexpr std::size_t kBtfEnumeratorSize = 8;     ///< struct btf_enum
inline constexpr std::size_t kBtfEnumerator64Size = 12;  ///< struct btf_enum64

/// One type's record as it lies in the blob.
struct BtfType {
  BtfKind kind{};
  std::uint32_t name = 0;  ///< offset of its name
  std::uint32_t count = 0;
  bool flag = false;                ///< kind_flag: its meaning depends on the kind
  std::uint32_t size_or_type = 0;   ///< which of both depends on the kind
  std::span<const std::byte> body;  ///< what follows: `count` members, an array's fields, ...

  bool composite() const { return kind == BtfKind::structure || kind == BtfKind::union_type; }
};

/// The 32-bit word `index` of `bytes`, which must hold it.
inline std::uint32_t btf_word(std::span<const std::byte> bytes, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.subspan(index * sizeof(value)).data(), sizeof(value));
  return value;
}

/// How many bytes follow struct btf_type.
inline std::size_t btf_body_size(BtfKind kind, std::size_t count) {
  switch (kind) {
    case BtfKind::integer:
    case BtfKind::variable:
    case BtfKind::declaration_tag:
      return 4;
    case BtfKind::array:
      return 12;
    case BtfKind::structure:
    case BtfKind::union_type:
      return count * kBtfMemberSize;
    case BtfKind::enumeration:
      return count * kBtfEnumeratorSize;
    case BtfKind::enumeration64:
      return count * kBtfEnumerator64Size;
    case BtfKind::function_prototype:
      return count * 8;
    case BtfKind::data_section:
      return count * 12;
    default:
      return 0;
  }
}

/// The record at the start of `bytes`; nothing when it is of no known kind or does not fit.
inline std::optional<BtfType> btf_type_at(std::span<const std::byte> bytes) {
  if (bytes.size() < kBtfTypeSize) {
    return std::nullopt;
  }
  const std::uint32_t info = btf_word(bytes, 1);
  const std::uint32_t kind = (info >> 24U) & 0x1fU;
  if (kind == 0 || kind > kLastBtfKind) {
    return std::nullopt;
  }
  BtfType type{.kind = static_cast<BtfKind>(kind),
               .name = btf_word(bytes, 0),
               .count = info & 0xffffU,
               .flag = (info >> 31U) != 0,
               .size_or_type = btf_word(bytes, 2),
               .body = {}};
  const std::size_t size = btf_body_size(type.kind, type.count);
  if (size > bytes.size() - kBtfTypeSize) {
    return std::nullopt;
  }
  type.body = bytes.subspan(kBtfTypeSize, size);
  return type;
}

}  // namespace vpatch::introspect
