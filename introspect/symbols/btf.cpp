// SPDX-License-Identifier: Apache-2.0
#include "introspect/symbols/btf.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {
namespace {

constexpr int kMaxChain = 32;      // typedefs and qualifiers, array dimensions, nested members
constexpr int kMaxSeen = 1 << 20;  // members looked at for one name
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 48U;  // a type's size and its offset

/// One step of a member path: a name, or an index when the name is empty.
struct Step {
  std::string_view name;
  std::uint64_t index = 0;
};

/// Takes the next step off `path`; nothing when it is malformed.
std::optional<Step> take_step(std::string_view& path) {
  if (path.starts_with('[')) {
    Step step;
    const char* end = path.data() + path.size();
    const auto [stop, error] = std::from_chars(path.data() + 1, end, step.index);
    if (error != std::errc{} || stop == end || *stop != ']') {
      return std::nullopt;
    }
    path.remove_prefix(static_cast<std::size_t>(stop - path.data()) + 1);
    return step;
  }
  if (path.starts_with('.')) {
    path.remove_prefix(1);
  }
  const Step step{.name = path.substr(0, path.find_first_of(".["))};
  path.remove_prefix(step.name.size());
  return step.name.empty() ? std::nullopt : std::optional(step);
}

/// What a path has led to so far.
struct Place {
  std::uint32_t type = 0;
  std::uint64_t bit_offset = 0;
  std::uint64_t bit_size = 0;  // of a bit-field, 0 for all else
};

/// How much room a type takes.
struct Extent {
  std::uint64_t bytes = 0;
  std::uint64_t elements = 1;
};

/// One record of a structure's members.
struct Field {
  std::uint32_t name = 0;
  std::uint32_t type = 0;
  std::uint32_t bit_offset = 0;
  std::uint32_t bit_size = 0;  // of a bit-field, 0 for all else
};

Field field_at(const BtfType& owner, std::size_t index) {
  const auto record = owner.body.subspan(index * kBtfMemberSize, kBtfMemberSize);
  const std::uint32_t offset = btf_word(record, 2);
  Field field{btf_word(record, 0), btf_word(record, 1), offset, 0};
  if (owner.flag) {
    field.bit_offset = offset & 0xffffffU;
    field.bit_size = offset >> 24U;
  }
  return field;
}

bool passes_through(BtfKind kind) {
  return kind == BtfKind::type_definition || kind == BtfKind::const_type ||
         kind == BtfKind::volatile_type || kind == BtfKind::restrict_type ||
         kind == BtfKind::type_tag;
}

}  // namespace

/// Answers one question about the types.
class Btf::Query {
 public:
  explicit Query(const Btf& btf) : btf_(&btf) {}

  Result<Member> member(std::uint32_t type, std::string_view path) const {
    Place place{.type = type};
    std::string_view rest = path;
    do {
      const auto step = take_step(rest);
      if (!step) {
        return fail(Errc::not_found, "the path is malformed");
      }
      auto next = step->name.empty() ? element(place, step->index) : field(place, step->name);
      if (!next) {
        return std::unexpected(std::move(next).error());
      }
      place = *next;
    } while (!rest.empty());
    if (place.bit_size != 0) {
      return Member{.bit_offset = place.bit_offset, .bit_size = place.bit_size};
    }
    const auto room = extent(place.type);
    if (!room) {
      return std::unexpected(room.error());
    }
    return Member{place.bit_offset, room->bytes * 8, room->elements};
  }

  Result<Extent> extent(std::uint32_t id) const {
    Extent room{.bytes = 1};
    for (int depth = 0; depth < kMaxChain; ++depth) {
      const auto type = plain(id);
      if (!type) {
        return std::unexpected(type.error());
      }
      std::uint64_t times = type->size_or_type;
      switch (type->kind) {
        case BtfKind::array:
          id = btf_word(type->body, 0);
          times = btf_word(type->body, 2);
          room.elements *= times;  // at most room.bytes
          break;
        case BtfKind::pointer:
          times = 8;
          break;
        case BtfKind::integer:
        case BtfKind::floating:
        case BtfKind::enumeration:
        case BtfKind::enumeration64:
        case BtfKind::structure:
        case BtfKind::union_type:
          break;
        case BtfKind::forward:
          return fail(Errc::not_found, "it is only declared");
        default:
          return fail(Errc::corrupt, "its type has no size");
      }
      if (times != 0 && room.bytes > kMaxBytes / times) {
        return fail(Errc::corrupt, "its type is too large");
      }
      room.bytes *= times;
      if (type->kind != BtfKind::array) {
        return room;
      }
    }
    return fail(Errc::corrupt, "its type has too many dimensions");
  }

 private:
  /// A type without its typedefs and qualifiers.
  Result<BtfType> plain(std::uint32_t id) const {
    for (int depth = 0; depth < kMaxChain; ++depth) {
      const auto type = btf_->type(id);
      if (!type) {
        return fail(Errc::corrupt, fmt::format("there is no type {}", id));
      }
      if (!passes_through(type->kind)) {
        return *type;
      }
      id = type->size_or_type;
    }
    return fail(Errc::corrupt, fmt::format("type {} never ends", id));
  }

  Result<Place> element(const Place& place, std::uint64_t index) const {
    const auto type = plain(place.type);
    if (!type) {
      return std::unexpected(type.error());
    }
    if (type->kind != BtfKind::array) {
      return fail(Errc::not_found, "what the path indexes is no array");
    }
    const std::uint32_t count = btf_word(type->body, 2);  // 0 for a flexible one
    if (count != 0 && index >= count) {
      return fail(Errc::not_found, fmt::format("the array has {} elements", count));
    }
    const std::uint32_t id = btf_word(type->body, 0);
    const auto room = extent(id);
    if (!room) {
      return std::unexpected(room.error());
    }
    if (room->bytes != 0 && index > kMaxBytes / room->bytes) {
      return fail(Errc::not_found, "the index is too large");
    }
    return Place{.type = id, .bit_offset = place.bit_offset + index * room->bytes * 8};
  }

  /// The member called `name`, also where only anonymous members lie in between.
  Result<Place> field(const Place& place, std::string_view name) const {
    struct Level {
      BtfType type;
      std::uint64_t bit_offset = 0;
      std::size_t next = 0;
    };
    const auto outer = plain(place.type);
    if (!outer) {
      return std::unexpected(outer.error());
    }
    std::array<Level, kMaxChain> levels{};
    levels[0] = {*outer, place.bit_offset, 0};
    std::size_t depth = outer->composite() ? 1 : 0;
    int seen = 0;
    while (depth > 0) {
      Level& level = levels[depth - 1];
      if (level.next == level.type.count) {
        --depth;
        continue;
      }
      const Field field = field_at(level.type, level.next++);
      const std::uint64_t offset = level.bit_offset + field.bit_offset;
      if (btf_->name_is(field.name, name)) {
        return found(level.type, field, offset);
      }
      if (++seen > kMaxSeen) {
        return fail(Errc::corrupt, "its anonymous members never end");
      }
      if (field.bit_size != 0 || !btf_->name_is(field.name, "")) {
        continue;
      }
      const auto inner = plain(field.type);
      if (!inner) {
        return std::unexpected(inner.error());
      }
      if (inner->composite()) {
        if (depth == levels.size()) {
          return fail(Errc::corrupt, "its anonymous members nest too deeply");
        }
        levels[depth++] = {*inner, offset, 0};
      }
    }
    return fail(Errc::not_found, fmt::format("there is no member {}", name));
  }

  /// Before kind_flag, bit-fields had integer types of their own that hold size and offset.
  Result<Place> found(const BtfType& owner, const Field& field, std::uint64_t offset) const {
    Place place{field.type, offset, field.bit_size};
    if (owner.flag) {
      return place;
    }
    const auto type = plain(field.type);
    if (!type) {
      return std::unexpected(type.error());
    }
    if (type->kind == BtfKind::integer) {
      const std::uint32_t encoding = btf_word(type->body, 0);
      const std::uint32_t bits = encoding & 0xffU;
      if (bits != std::uint64_t{type->size_or_type} * 8) {
        place.bit_size = bits;
      }
      place.bit_offset += (encoding >> 16U) & 0xffU;
    }
    return place;
  }

  const Btf* btf_;
};

Result<Member> Btf::member(std::string_view type, std::string_view path) const {
  const auto id = find(type);
  if (!id) {
    return fail(Errc::not_found, fmt::format("the kernel has no type {}", type));
  }
  auto member = Query(*this).member(*id, path);
  if (!member) {
    return std::unexpected(
        std::move(member).error().in_context(fmt::format("look up {}.{}", type, path)));
  }
  return member;
}

Result<std::uint64_t> Btf::size_of(std::string_view type) const {
  const auto id = find(type);
  if (!id) {
    return fail(Errc::not_found, fmt::format("the kernel has no type {}", type));
  }
  auto room = Query(*this).extent(*id);
  if (!room) {
    return std::unexpected(
        std::move(room).error().in_context(fmt::format("look up the size of {}", type)));
  }
  return room->bytes;
}

Result<std::int64_t> Btf::enumerator(std::string_view name) const {
  for (const Btf* owner = this; owner != nullptr; owner = owner->base_) {
    if (const auto value = owner->own_enumerator(name)) {
      return *value;
    }
  }
  return fail(Errc::not_found, fmt::format("the kernel has no enumerator {}", name));
}

std::optional<BtfType> Btf::type(std::uint32_t id) const {
  if (id == 0) {
    return BtfType{};
  }
  if (id >= end_id()) {
    return std::nullopt;
  }
  const Btf* owner = this;
  while (id < owner->first_id_) {
    owner = owner->base_;  // only one with a base starts after 1
  }
  return btf_type_at(owner->types().subspan(owner->type_offsets_[id - owner->first_id_]));
}

bool Btf::name_is(std::uint32_t offset, std::string_view name) const {
  const Btf* owner = this;
  while (offset < owner->first_string_) {
    owner = owner->base_;  // only one with a base starts after 0
  }
  const auto text = owner->strings();
  const std::uint64_t at = offset - owner->first_string_;
  if (at >= text.size() || name.size() >= text.size() - at) {
    return false;
  }
  const auto rest = text.subspan(at);
  return rest[name.size()] == std::byte{0} &&
         std::memcmp(rest.data(), name.data(), name.size()) == 0;
}

std::optional<std::uint32_t> Btf::find(std::string_view name) const {
  if (name.empty()) {
    return std::nullopt;
  }
  const std::uint32_t hash = hash_name(name);
  for (const Btf* owner = this; owner != nullptr; owner = owner->base_) {
    std::optional<std::uint32_t> definition;
    for (const std::uint32_t id : owner->by_name_.candidates(hash)) {
      const auto candidate = owner->type(id);
      if (!candidate || !owner->name_is(candidate->name, name)) {
        continue;
      }
      if (candidate->composite()) {
        return id;
      }
      if (!definition) {
        definition = id;
      }
    }
    if (definition) {
      return definition;
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> Btf::own_enumerator(std::string_view name) const {
  for (const std::uint32_t at : enumerators_.candidates(hash_name(name))) {
    const auto record = types().subspan(at);
    if (name.empty() || !name_is(btf_word(record, 0), name)) {
      continue;
    }
    // Its type is the last that starts before it.
    const auto after = std::upper_bound(type_offsets_.begin(), type_offsets_.end(), at);
    const auto owner = btf_type_at(types().subspan(*std::prev(after)));
    if (owner && owner->kind == BtfKind::enumeration) {
      return static_cast<std::int32_t>(btf_word(record, 1));
    }
    return static_cast<std::int64_t>(btf_word(record, 1) |
                                     (std::uint64_t{btf_word(record, 2)} << 32U));
  }
  return std::nullopt;
}

}  // namespace vpatch::introspect
