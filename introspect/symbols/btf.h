// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "introspect/symbols/btf_format.h"
#include "introspect/symbols/name_index.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest type information believed, in bytes; kernels have 4 to 8 MiB.
inline constexpr std::size_t kMaxBtfSize = std::size_t{64} << 20U;

/// Type information in the BPF Type Format (Documentation/bpf/btf.rst), as the kernel carries it
/// for itself (__start_BTF to __stop_BTF) and for each module (based on the kernel's).
///
/// parse() checks that every type lies inside and where it starts; all else is checked when it is
/// looked at. Chains of typedefs, qualifiers and nested anonymous members are followed in bounded
/// loops. Threads: never changes, any number may ask.
///
/// Of several types with one name, a structure or union goes before a typedef, a module's own
/// before its base's, the first in the blob before later ones.
class Btf final : public Types {
 public:
  /// Takes the bytes of a whole BTF blob. `base` is the kernel's own for a module's, and must
  /// outlive it, unmoved. Errc::corrupt when it is none.
  static Result<Btf> parse(std::vector<std::byte> bytes, const Btf* base = nullptr);

  Result<Member> member(std::string_view type, std::string_view path) const override;
  Result<std::uint64_t> size_of(std::string_view type) const override;
  Result<std::int64_t> enumerator(std::string_view name) const override;

  /// How many types it holds, those of the base included (and `void`, which has no record, not).
  std::uint32_t type_count() const { return end_id() - 1; }

 private:
  /// A part of bytes_.
  struct Section {
    std::size_t offset = 0;
    std::size_t size = 0;
  };
  class Query;

  Btf() = default;
  Result<void> find_sections();
  Result<void> walk_types();

  std::uint32_t end_id() const {
    return first_id_ + static_cast<std::uint32_t>(type_offsets_.size());
  }
  std::span<const std::byte> types() const {
    return std::span(bytes_).subspan(types_.offset, types_.size);
  }
  std::span<const std::byte> strings() const {
    return std::span(bytes_).subspan(strings_.offset, strings_.size);
  }

  /// Nothing for a number that no type has. Type 0 is void.
  std::optional<BtfType> type(std::uint32_t id) const;
  /// The name at an offset, the base's counted first; cut to kMaxName, empty outside of the
  /// strings.
  std::string_view name(std::uint32_t offset) const;
  bool name_is(std::uint32_t offset, std::string_view name) const;
  /// The structure, union or typedef of that name.
  std::optional<std::uint32_t> find(std::string_view name) const;
  std::optional<std::int64_t> own_enumerator(std::string_view name) const;

  std::vector<std::byte> bytes_;
  const Btf* base_ = nullptr;
  Section types_;
  Section strings_;
  std::uint32_t first_id_ = 1;               // of its own types
  std::uint64_t first_string_ = 0;           // offset that its own strings start at
  std::vector<std::uint32_t> type_offsets_;  // of its own types in types(), rising
  NameIndex by_name_;                        // own structures, unions and typedefs: their number
  NameIndex enumerators_;                    // own enumerators: where in types() their record lies
};

}  // namespace vpatch::introspect
