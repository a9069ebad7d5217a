// SPDX-License-Identifier: Apache-2.0
#include "fake_orc.h"

#include <cstring>

namespace vpatch::introspect::testing {
namespace {

std::array<std::byte, 6> packed(std::int16_t sp_offset, std::int16_t bp_offset, unsigned bits) {
  const auto low = static_cast<std::uint16_t>(bits);
  std::array<std::byte, 6> bytes{};
  std::memcpy(&bytes[0], &sp_offset, 2);
  std::memcpy(&bytes[2], &bp_offset, 2);
  std::memcpy(&bytes[4], &low, 2);
  return bytes;
}

FakeTypes common_types() {
  FakeTypes types;
  types.sizes = {{"orc_entry", 6}, {"pt_regs", 168}, {"inactive_task_frame", 56}};
  types.members = {{"orc_entry.sp_offset", {0, 16}},
                   {"orc_entry.bp_offset", {16, 16}},
                   {"orc_entry.sp_reg", {32, 4}},
                   {"orc_entry.bp_reg", {36, 4}}};
  const auto word = [&](const char* name, std::uint64_t offset) {
    types.members[name] = {offset * 8, 64};
  };
  word("pt_regs.r13", 16);
  word("pt_regs.bp", 32);
  word("pt_regs.r10", 56);
  word("pt_regs.dx", 96);
  word("pt_regs.di", 112);
  word("pt_regs.ip", 128);
  word("pt_regs.cs", 136);
  word("pt_regs.flags", 144);
  word("pt_regs.sp", 152);
  word("inactive_task_frame.bp", 40);
  word("inactive_task_frame.ret_addr", 48);
  return types;
}

}  // namespace

Result<Member> FakeTypes::member(std::string_view type, std::string_view path) const {
  const auto found = members.find(std::string(type) + "." + std::string(path));
  if (found == members.end()) {
    return fail(Errc::not_found, "no such member");
  }
  return found->second;
}

Result<std::uint64_t> FakeTypes::size_of(std::string_view type) const {
  const auto found = sizes.find(std::string(type));
  if (found == sizes.end()) {
    return fail(Errc::not_found, "no such type");
  }
  return found->second;
}

Result<std::int64_t> FakeTypes::enumerator(std::string_view /*name*/) const {
  return fail(Errc::not_found, "no such enumerator");
}

FakeTypes types_of_6_1() {
  FakeTypes types = common_types();
  types.members["orc_entry.type"] = {40, 2};
  types.members["orc_entry.end"] = {42, 1};
  return types;
}

FakeTypes types_of_6_12() {
  FakeTypes types = common_types();
  types.members["orc_entry.type"] = {40, 3};
  types.members["orc_entry.signal"] = {43, 1};
  return types;
}

std::array<std::byte, 6> RawOrc::packed_as_6_1() const {
  return packed(sp_offset, bp_offset, sp_reg | bp_reg << 4U | type << 8U | (end ? 1U << 10U : 0U));
}

std::array<std::byte, 6> RawOrc::packed_as_6_12() const {
  return packed(sp_offset, bp_offset,
                sp_reg | bp_reg << 4U | type << 8U | (signal ? 1U << 11U : 0U));
}

RawOrc call_frame(std::int16_t size) {
  return {.sp_offset = size, .sp_reg = kSp, .type = kCall};
}

OrcTableLocation OrcBuilder::write(SparseVirtualMemory& memory, VirtRange text, std::uint64_t ips,
                                   std::uint64_t entries) const {
  decltype(entries_) sorted;
  for (const auto& entry : entries_) {  // of equal ones the order stays
    sorted.insert(std::ranges::upper_bound(sorted, entry.first, {},
                                           [](const auto& one) { return one.first; }),
                  entry);
  }
  for (std::size_t at = 0; at < sorted.size(); ++at) {
    const std::uint64_t place = ips + at * 4;
    memory.put(GuestVirtAddr(place), static_cast<std::int32_t>(sorted[at].first - place));
    memory.put(GuestVirtAddr(entries + at * 6),
               as_6_1 ? sorted[at].second.packed_as_6_1() : sorted[at].second.packed_as_6_12());
  }
  return {text, GuestVirtAddr(ips), GuestVirtAddr(entries),
          static_cast<std::uint32_t>(sorted.size())};
}

OrcFormat OrcBuilder::format() const {
  return OrcFormat::probe(as_6_1 ? types_of_6_1() : types_of_6_12()).value();
}

OrcFormat new_format() {
  return OrcFormat::probe(types_of_6_12()).value();
}

}  // namespace vpatch::introspect::testing
