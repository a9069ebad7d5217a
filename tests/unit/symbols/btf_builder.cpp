// SPDX-License-Identifier: Apache-2.0
#include "btf_builder.h"

#include <cstring>

namespace vpatch::introspect::testing {
namespace {

constexpr auto number(BtfKind kind) {
  return static_cast<std::uint32_t>(kind);
}

}  // namespace

BtfBuilder::BtfBuilder(std::uint32_t first_type, std::uint32_t first_string)
    : next_type_(first_type), first_string_(first_string) {
  if (first_string == 0) {
    strings_.push_back('\0');
  }
}

std::uint32_t BtfBuilder::integer(std::string_view name, std::uint32_t bytes, std::uint32_t bits,
                                  std::uint32_t bit_offset) {
  const std::uint32_t encoding = (bits == 0 ? bytes * 8 : bits) | (bit_offset << 16U);
  return record(number(BtfKind::integer), 0, false, string(name), bytes, {encoding});
}

std::uint32_t BtfBuilder::array(std::uint32_t element, std::uint32_t count) {
  return record(number(BtfKind::array), 0, false, 0, 0, {element, 0, count});
}

std::uint32_t BtfBuilder::structure(std::string_view name, std::uint32_t bytes,
                                    const std::vector<Field>& fields, BtfKind kind) {
  std::vector<std::uint32_t> body;
  for (const Field& field : fields) {
    body.insert(body.end(), {string(field.name), field.type, field.bit_offset});
  }
  return record(number(kind), static_cast<std::uint32_t>(fields.size()), false, string(name), bytes,
                body);
}

std::uint32_t BtfBuilder::bit_fields(std::string_view name, std::uint32_t bytes,
                                     const std::vector<Field>& fields) {
  std::vector<std::uint32_t> body;
  for (const Field& field : fields) {
    body.insert(body.end(),
                {string(field.name), field.type, field.bit_offset | (field.bits << 24U)});
  }
  return record(number(BtfKind::structure), static_cast<std::uint32_t>(fields.size()), true,
                string(name), bytes, body);
}

std::uint32_t BtfBuilder::enumeration(std::string_view name, const std::vector<Value>& values) {
  std::vector<std::uint32_t> body;
  for (const Value& value : values) {
    body.insert(body.end(), {string(value.name), static_cast<std::uint32_t>(value.value)});
  }
  return record(number(BtfKind::enumeration), static_cast<std::uint32_t>(values.size()), false,
                string(name), 4, body);
}

std::uint32_t BtfBuilder::enumeration64(std::string_view name, const std::vector<Value>& values) {
  std::vector<std::uint32_t> body;
  for (const Value& value : values) {
    const auto bits = static_cast<std::uint64_t>(value.value);
    body.insert(body.end(), {string(value.name), static_cast<std::uint32_t>(bits),
                             static_cast<std::uint32_t>(bits >> 32U)});
  }
  return record(number(BtfKind::enumeration64), static_cast<std::uint32_t>(values.size()), false,
                string(name), 8, body);
}

std::uint32_t BtfBuilder::refer(BtfKind kind, std::string_view name, std::uint32_t to) {
  return record(number(kind), 0, false, string(name), to);
}

std::uint32_t BtfBuilder::record(std::uint32_t kind, std::uint32_t count, bool flag,
                                 std::uint32_t name, std::uint32_t size_or_type,
                                 const std::vector<std::uint32_t>& body) {
  types_.insert(types_.end(), {name, count | (kind << 24U) | (flag ? 1U << 31U : 0), size_or_type});
  types_.insert(types_.end(), body.begin(), body.end());
  return next_type_++;
}

std::uint32_t BtfBuilder::string(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  const std::uint32_t offset = next_string();
  strings_.append(text).push_back('\0');
  return offset;
}

std::vector<std::byte> BtfBuilder::blob() const {
  const auto types_size = static_cast<std::uint32_t>(types_.size() * sizeof(types_[0]));
  const std::uint32_t header[] = {
      0x0001'eb9f, 24, 0, types_size, types_size, static_cast<std::uint32_t>(strings_.size()),
  };
  std::vector<std::byte> bytes(sizeof(header) + types_size + strings_.size());
  std::memcpy(bytes.data(), header, sizeof(header));
  if (types_size != 0) {
    std::memcpy(bytes.data() + sizeof(header), types_.data(), types_size);
  }
  std::memcpy(bytes.data() + sizeof(header) + types_size, strings_.data(), strings_.size());
  return bytes;
}

}  // namespace vpatch::introspect::testing
