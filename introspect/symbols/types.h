// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "introspect/error.h"

namespace vpatch::introspect {

/// Where a member lies in its structure. Both counts are in bits since members may be bit-fields;
/// the first bit of a structure is bit 0 of its first byte.
struct Member {
  std::uint64_t bit_offset = 0;
  std::uint64_t bit_size = 0;  ///< of the whole member, all elements of an array included
  std::uint64_t elements = 1;  ///< of an array (all dimensions multiplied); 0 for a flexible one

  /// In bytes; only for members that start at a byte.
  std::uint64_t offset() const { return bit_offset / 8; }
  std::uint64_t size() const { return bit_size / 8; }

  friend bool operator==(const Member&, const Member&) = default;
};

/// The layout of the guest kernel's types. Answers are probed, never guessed from a version: a
/// field is there if the kernel's own type information has it.
///
/// A type is named as in C without its keyword ("task_struct"); structures, unions and typedefs of
/// them count. A path names members of members ("mems_allowed_seq.seqcount") and looks through
/// anonymous structures and unions; "member[3]" picks an element of an array.
///
/// Errc::not_found for a type, member or enumerator this kernel does not have; Errc::corrupt when
/// the type information makes no sense.
class Types {
 public:
  Types() = default;
  Types(const Types&) = delete;
  Types& operator=(const Types&) = delete;
  virtual ~Types() = default;

  virtual Result<Member> member(std::string_view type, std::string_view path) const = 0;
  /// In bytes.
  virtual Result<std::uint64_t> size_of(std::string_view type) const = 0;
  /// The value of an enumerator, sign extended.
  virtual Result<std::int64_t> enumerator(std::string_view name) const = 0;

 protected:
  Types(Types&&) = default;
  Types& operator=(Types&&) = default;
};

}  // namespace vpatch::introspect
