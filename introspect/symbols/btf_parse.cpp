// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "introspect/symbols/btf.h"

namespace vpatch::introspect {
namespace {

/// struct btf_header. Newer kernels append members; header_size says how long theirs is.
struct Header {
  std::uint16_t magic;
  std::uint8_t version;
  std::uint8_t flags;
  std::uint32_t header_size;
  std::uint32_t types_offset;  // from the header's end, as the one below
  std::uint32_t types_size;
  std::uint32_t strings_offset;
  std::uint32_t strings_size;
};
static_assert(sizeof(Header) == 24);

constexpr std::uint16_t kMagic = 0xeb9f;

bool indexed(BtfKind kind) {
  return kind == BtfKind::structure || kind == BtfKind::union_type ||
         kind == BtfKind::type_definition;
}

std::size_t enumerator_size(BtfKind kind) {
  switch (kind) {
    case BtfKind::enumeration:
      return kBtfEnumeratorSize;
    case BtfKind::enumeration64:
      return kBtfEnumerator64Size;
    default:
      return 0;
  }
}

}  // namespace

Result<Btf> Btf::parse(std::vector<std::byte> bytes, const Btf* base) {
  Btf btf;
  btf.bytes_ = std::move(bytes);
  btf.base_ = base;
  if (base != nullptr) {
    btf.first_id_ = base->end_id();
    btf.first_string_ = base->first_string_ + base->strings_.size;
  }
  if (auto found = btf.find_sections(); !found) {
    return std::unexpected(std::move(found).error().in_context("parse type information"));
  }
  if (auto walked = btf.walk_types(); !walked) {
    return std::unexpected(std::move(walked).error().in_context("parse type information"));
  }
  return btf;
}

Result<void> Btf::find_sections() {
  Header header{};
  if (bytes_.size() < sizeof(header) || bytes_.size() > kMaxBtfSize) {
    return fail(Errc::corrupt, fmt::format("it has {} bytes", bytes_.size()));
  }
  std::memcpy(&header, bytes_.data(), sizeof(header));
  if (header.magic != kMagic || header.version != 1 || header.flags != 0) {
    return fail(Errc::corrupt, fmt::format("it starts with magic {:#x}, version {}, flags {:#x}",
                                           header.magic, header.version, header.flags));
  }
  if (header.header_size < sizeof(header) || header.header_size > bytes_.size()) {
    return fail(Errc::corrupt, fmt::format("its header has {} bytes", header.header_size));
  }
  const std::size_t rest = bytes_.size() - header.header_size;
  const auto fits = [rest](std::uint32_t offset, std::uint32_t size) {
    return size <= rest && offset <= rest - size;
  };
  if (!fits(header.types_offset, header.types_size) ||
      !fits(header.strings_offset, header.strings_size)) {
    return fail(Errc::corrupt, "its types or strings lie outside of it");
  }
  types_ = {std::size_t{header.header_size} + header.types_offset, header.types_size};
  strings_ = {std::size_t{header.header_size} + header.strings_offset, header.strings_size};
  const auto text = strings();
  const bool terminated = !text.empty() && text.back() == std::byte{0};
  // Offset 0 is the empty name; a module's is its base's.
  if (base_ == nullptr ? !terminated || text.front() != std::byte{0}
                       : !terminated && !text.empty()) {
    return fail(Errc::corrupt, "its strings are not terminated");
  }
  return {};
}

Result<void> Btf::walk_types() {
  const auto all = types();
  std::vector<NameIndex::Entry> names;
  std::vector<NameIndex::Entry> enumerators;
  // Guesses from real kernels, to spare most of the growing.
  type_offsets_.reserve(all.size() / 20);
  names.reserve(all.size() / 200);
  enumerators.reserve(all.size() / 100);
  const auto enter = [this](std::vector<NameIndex::Entry>& into, std::uint32_t name_offset,
                            std::size_t value) {
    if (const auto text = name(name_offset); !text.empty()) {
      into.push_back({hash_name(text), static_cast<std::uint32_t>(value)});
    }
  };
  std::size_t offset = 0;
  while (offset < all.size()) {
    const auto type = btf_type_at(all.subspan(offset));
    if (!type) {
      return fail(Errc::corrupt, fmt::format("type {} is of unknown kind or cut off", end_id()));
    }
    if (indexed(type->kind)) {
      enter(names, type->name, end_id());
    }
    const std::size_t body = offset + kBtfTypeSize;
    if (const std::size_t step = enumerator_size(type->kind); step != 0) {
      for (std::size_t at = 0; at < type->body.size(); at += step) {
        enter(enumerators, btf_word(type->body.subspan(at), 0), body + at);
      }
    }
    type_offsets_.push_back(static_cast<std::uint32_t>(offset));
    offset = body + type->body.size();
  }
  by_name_ = NameIndex(names);
  enumerators_ = NameIndex(enumerators);
  return {};
}

std::string_view Btf::name(std::uint32_t offset) const {
  const Btf* owner = this;
  while (offset < owner->first_string_) {
    owner = owner->base_;  // only one with a base starts after 0
  }
  const auto text = owner->strings();
  const std::uint64_t at = offset - owner->first_string_;
  if (at >= text.size()) {
    return {};
  }
  const auto rest = text.subspan(at, std::min(text.size() - at, kMaxName));
  const char* start = reinterpret_cast<const char*>(rest.data());
  return {start, ::strnlen(start, rest.size())};
}

}  // namespace vpatch::introspect
