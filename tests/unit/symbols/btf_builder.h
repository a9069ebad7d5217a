// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "introspect/symbols/btf_format.h"

namespace vpatch::introspect::testing {

/// Writes BTF blobs, right or wrong: nothing is checked. Each type gets the next number.
class BtfBuilder {
 public:
  struct Field {
    std::string_view name;
    std::uint32_t type = 0;
    std::uint32_t bit_offset = 0;
    std::uint32_t bits = 0;  ///< of a bit-field; needs bit_fields()
  };
  struct Value {
    std::string_view name;
    std::int64_t value = 0;
  };

  /// What goes on after the types and strings of another blob.
  explicit BtfBuilder(std::uint32_t first_type = 1, std::uint32_t first_string = 0);

  std::uint32_t integer(std::string_view name, std::uint32_t bytes, std::uint32_t bits = 0,
                        std::uint32_t bit_offset = 0);
  std::uint32_t pointer(std::uint32_t to) { return refer(BtfKind::pointer, "", to); }
  std::uint32_t array(std::uint32_t element, std::uint32_t count);
  std::uint32_t structure(std::string_view name, std::uint32_t bytes,
                          const std::vector<Field>& fields, BtfKind kind = BtfKind::structure);
  /// A structure with kind_flag, as those with bit-fields have it.
  std::uint32_t bit_fields(std::string_view name, std::uint32_t bytes,
                           const std::vector<Field>& fields);
  std::uint32_t enumeration(std::string_view name, const std::vector<Value>& values);
  std::uint32_t enumeration64(std::string_view name, const std::vector<Value>& values);
  /// A typedef, qualifier, tag, or whatever consists of a name and a type.
  std::uint32_t refer(BtfKind kind, std::string_view name, std::uint32_t to);
  /// Any record at all.
  std::uint32_t record(std::uint32_t kind, std::uint32_t count, bool flag, std::uint32_t name,
                       std::uint32_t size_or_type, const std::vector<std::uint32_t>& body = {});

  std::uint32_t string(std::string_view text);
  std::uint32_t next_type() const { return next_type_; }
  std::uint32_t next_string() const {
    return first_string_ + static_cast<std::uint32_t>(strings_.size());
  }

  std::vector<std::byte> blob() const;

 private:
  std::uint32_t next_type_;
  std::uint32_t first_string_;
  std::vector<std::uint32_t> types_;
  std::string strings_;
};

}  // namespace vpatch::introspect::testing
