// SPDX-License-Identifier: Apache-2.0
#include "introspect/stacks/orc.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

constexpr unsigned kEntryBits = OrcFormat::kEntrySize * 8;

/// `field` lies inside the entry's bits and is at most 16 wide.
std::uint64_t bits_of(std::uint64_t entry, const Member& field) {
  return (entry >> field.bit_offset) & ((std::uint64_t{1} << field.bit_size) - 1);
}

std::unexpected<Error> unknown_layout(std::string_view why) {
  return fail(Errc::corrupt, fmt::format("struct orc_entry {}", why));
}

/// A member of struct orc_entry that must be there and be `low` to `high` bits wide.
Result<Member> field(const Types& types, std::string_view name, unsigned low, unsigned high) {
  auto member = types.member("orc_entry", name);
  if (!member && member.error().code == Errc::not_found) {
    return unknown_layout(fmt::format("has no {}", name));
  }
  if (!member) {
    return member;
  }
  if (member->bit_size < low || member->bit_size > high || member->bit_offset > kEntryBits ||
      member->bit_size > kEntryBits - member->bit_offset) {
    return unknown_layout(
        fmt::format("has its {} in {} bits at bit {}", name, member->bit_size, member->bit_offset));
  }
  return member;
}

/// The same, for one that not every kernel has.
Result<std::optional<Member>> optional_bit(const Types& types, std::string_view name) {
  if (auto member = types.member("orc_entry", name);
      !member && member.error().code == Errc::not_found) {
    return std::nullopt;
  }
  return field(types, name, 1, 1);
}

std::optional<OrcRegister> register_of(std::uint64_t number) {
  if (number > static_cast<std::uint64_t>(OrcRegister::sp_indirect)) {
    return std::nullopt;
  }
  return static_cast<OrcRegister>(number);
}

}  // namespace

Result<OrcFormat> OrcFormat::probe(const Types& types) {
  const auto size = types.size_of("orc_entry");
  if (!size) {
    return std::unexpected(size.error());
  }
  if (*size != kEntrySize) {
    return unknown_layout(fmt::format("has {} bytes", *size));
  }
  OrcFormat format;
  struct Wanted {
    Member* into;
    std::string_view name;
    unsigned low, high;
  };
  for (const Wanted& one :
       {Wanted{&format.sp_offset_, "sp_offset", 16, 16},
        Wanted{&format.bp_offset_, "bp_offset", 16, 16},
        Wanted{&format.sp_register_, "sp_reg", 4, 4}, Wanted{&format.bp_register_, "bp_reg", 4, 4},
        Wanted{&format.type_, "type", 2, 3}}) {
    auto member = field(types, one.name, one.low, one.high);
    if (!member) {
      return std::unexpected(std::move(member).error());
    }
    *one.into = *member;
  }
  auto signal = optional_bit(types, "signal");
  auto end = optional_bit(types, "end");
  if (!signal || !end) {
    return std::unexpected(!signal ? std::move(signal).error() : std::move(end).error());
  }
  format.signal_ = *signal;
  format.end_ = *end;
  // The third bit of the type came when the end bit went, and the types were renumbered.
  if ((format.type_.bit_size == 2) != format.end_.has_value()) {
    return unknown_layout(fmt::format("has a type of {} bits {} an end bit", format.type_.bit_size,
                                      format.end_ ? "and" : "without"));
  }
  return format;
}

OrcType OrcFormat::type_of(std::uint64_t entry, OrcRegister sp_register) const {
  const std::uint64_t number = bits_of(entry, type_);
  if (!end_) {
    constexpr std::array kTypes{OrcType::undefined, OrcType::end_of_stack, OrcType::call,
                                OrcType::regs, OrcType::regs_partial};
    return number < kTypes.size() ? kTypes.at(number) : OrcType::undefined;
  }
  // There a frame without a stack pointer is empty or a broken one, whatever its type.
  if (sp_register == OrcRegister::undefined) {
    return bits_of(entry, *end_) != 0 ? OrcType::empty : OrcType::undefined;
  }
  constexpr std::array kTypes{OrcType::call, OrcType::regs, OrcType::regs_partial};
  return number < kTypes.size() ? kTypes.at(number) : OrcType::undefined;
}

OrcEntry OrcFormat::decode(std::span<const std::byte, kEntrySize> bytes) const {
  std::uint64_t raw = 0;
  std::memcpy(&raw, bytes.data(), bytes.size());
  const auto sp_register = register_of(bits_of(raw, sp_register_));
  const auto bp_register = register_of(bits_of(raw, bp_register_));
  if (!sp_register || !bp_register) {
    return {};
  }
  OrcEntry entry;
  entry.type = type_of(raw, *sp_register);
  entry.sp_register = *sp_register;
  entry.bp_register = *bp_register;
  entry.sp_offset = static_cast<std::int16_t>(bits_of(raw, sp_offset_));
  entry.bp_offset = static_cast<std::int16_t>(bits_of(raw, bp_offset_));
  entry.signal = signal_ ? bits_of(raw, *signal_) != 0
                         : entry.type == OrcType::regs || entry.type == OrcType::regs_partial;
  return entry;
}

}  // namespace vpatch::introspect
