// SPDX-License-Identifier: Apache-2.0
#include "introspect/kernel/layout_probe.h"

#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {

void LayoutProbe::note(Error error) {
  if (!error_) {
    error_ = std::move(error);
  }
}

template <class T>
std::optional<T> LayoutProbe::take(Result<T> answer, bool required) {
  if (error_) {
    return std::nullopt;
  }
  if (answer) {
    return *std::move(answer);
  }
  if (required || answer.error().code != Errc::not_found) {
    note(std::move(answer).error());
  }
  return std::nullopt;
}

std::optional<Member> LayoutProbe::look_up(std::string_view type, std::string_view path,
                                           bool required) {
  const auto found = take(types_->member(type, path), required);
  if (!found) {
    return std::nullopt;
  }
  constexpr std::uint64_t kMaxBits = kMaxMemberOffset * 8;
  if (found->bit_offset > kMaxBits || found->bit_size > kMaxBits) {
    note({Errc::corrupt, fmt::format("{}.{} would lie {} bits inside and have {} bits", type, path,
                                     found->bit_offset, found->bit_size)});
    return std::nullopt;
  }
  return found;
}

std::optional<std::uint64_t> LayoutProbe::look_up_size(std::string_view type, bool required) {
  const auto found = take(types_->size_of(type), required);
  if (found && (*found == 0 || *found > kMaxStructSize)) {
    note({Errc::corrupt, fmt::format("{} would have {} bytes", type, *found)});
    return std::nullopt;
  }
  return found;
}

std::uint64_t LayoutProbe::offset(std::string_view type, std::string_view path) {
  return member(type, path).offset();
}

Member LayoutProbe::member(std::string_view type, std::string_view path) {
  return look_up(type, path, true).value_or(Member{});
}

std::uint64_t LayoutProbe::size_of(std::string_view type) {
  return look_up_size(type, true).value_or(0);
}

GuestVirtAddr LayoutProbe::symbol(std::string_view name) {
  return take(symbols_->address_of(name), true).value_or(GuestVirtAddr());
}

std::optional<std::uint64_t> LayoutProbe::optional_offset(std::string_view type,
                                                          std::string_view path) {
  const auto found = optional_member(type, path);
  return found ? std::optional(found->offset()) : std::nullopt;
}

std::optional<Member> LayoutProbe::optional_member(std::string_view type, std::string_view path) {
  return look_up(type, path, false);
}

std::optional<std::uint64_t> LayoutProbe::optional_size_of(std::string_view type) {
  return look_up_size(type, false);
}

std::optional<GuestVirtAddr> LayoutProbe::optional_symbol(std::string_view name) {
  return take(symbols_->address_of(name), false);
}

std::optional<std::int64_t> LayoutProbe::optional_enumerator(std::string_view name) {
  return take(types_->enumerator(name), false);
}

}  // namespace vpatch::introspect
