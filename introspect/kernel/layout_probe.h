// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "introspect/symbols/symbol.h"
#include "introspect/symbols/types.h"

namespace vpatch::introspect {

/// The largest size of a structure that is copied whole.
inline constexpr std::uint64_t kMaxStructSize = std::uint64_t{64} * 1024;
/// The largest offset of a member, and the largest size of one; cpu_entry_area has 240 KiB.
inline constexpr std::uint64_t kMaxMemberOffset = std::uint64_t{1024} * 1024;

/// Collects what a layout is made of. The first answer that is missing or makes no sense is kept
/// as the error of them all; from then on every answer is zero, so that a layout's probe() is a
/// plain list of questions with one check at its end.
class LayoutProbe {
 public:
  /// Both must outlive this object.
  LayoutProbe(const Types& types, const SymbolAddresses& symbols)
      : types_(&types), symbols_(&symbols) {}

  /// The byte at which a member starts.
  std::uint64_t offset(std::string_view type, std::string_view path);
  /// The whole of it; for arrays and bit-fields.
  Member member(std::string_view type, std::string_view path);
  std::uint64_t size_of(std::string_view type);
  GuestVirtAddr symbol(std::string_view name);

  /// The same for what a kernel may lack; only answers that make no sense are errors.
  std::optional<std::uint64_t> optional_offset(std::string_view type, std::string_view path);
  std::optional<Member> optional_member(std::string_view type, std::string_view path);
  std::optional<std::uint64_t> optional_size_of(std::string_view type);
  std::optional<GuestVirtAddr> optional_symbol(std::string_view name);
  std::optional<std::int64_t> optional_enumerator(std::string_view name);

  /// `layout` if all went well.
  template <class Layout>
  Result<Layout> finish(Layout layout) && {
    if (error_) {
      return std::unexpected(*std::move(error_));
    }
    return layout;
  }

 private:
  template <class T>
  std::optional<T> take(Result<T> answer, bool required);
  std::optional<Member> look_up(std::string_view type, std::string_view path, bool required);
  std::optional<std::uint64_t> look_up_size(std::string_view type, bool required);
  void note(Error error);

  const Types* types_;
  const SymbolAddresses* symbols_;
  std::optional<Error> error_;
};

}  // namespace vpatch::introspect
