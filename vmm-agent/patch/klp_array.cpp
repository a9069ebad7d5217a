// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_array.h"

#include <algorithm>

#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::uint64_t kPointerSize = 8;
constexpr std::uint64_t kOldSympos = 16;  ///< of klp_func

/// The leading fields that are known: klp_object up to its callbacks, klp_func up to old_sympos.
/// new_func.
constexpr std::uint64_t kObjectFields = 48;
constexpr std::uint64_t kFunctionFields = 24;

}  // namespace

std::uint64_t end_of_array(const ElfModule& module, Place array, const std::set<Place>& starts) {
  if (const auto end = module.object_end(array)) return *end;
  std::uint64_t end = module.section(array.section).size;
  if (const auto object = module.next_object(array)) end = std::min(end, *object);
  const auto next = starts.upper_bound(array);
  if (next != starts.end() && next->section == array.section) end = std::min(end, next->offset);
  return end;
}

bool KlpArray::has_relocation(Place at) const {
  return !module_.relocations(at.section, at.offset, at.offset + kPointerSize).empty();
}

/// Whether the kernel would stop at `entry`. Only called for entries inside the section.
Reading<bool> KlpArray::is_empty(Place entry) const {
  const Place second{entry.section, entry.offset + kPointerSize};
  if (has_relocation(entry) || has_relocation(second)) return false;
  for (const Place pointer : {entry, second}) {
    // No relocation, so this is NULL or an error.
    const auto null = read_pointer(module_, pointer);
    if (!null) return std::unexpected(null.error());
  }
  if (kind_ == Kind::objects) return true;
  const auto position = read_number(module_, {entry.section, entry.offset + kOldSympos}, 8);
  if (!position) return std::unexpected(position.error());
  return *position == 0;
}

/// Relocations behind the leading fields mean a structure that is not the one known here.
Reading<void> KlpArray::check_fields(Place entry) const {
  const std::uint64_t fields = kind_ == Kind::objects ? kObjectFields : kFunctionFields;
  const std::uint64_t size = spacing_.value_or(kSmallest);
  if (!module_.relocations(entry.section, entry.offset + fields, entry.offset + size).empty()) {
    return stop_unknown(fmt::format("the {} at {} has fields set that are not known", name(),
                                    describe(module_, entry)));
  }
  return {};
}

/// Looks for the second entry, after the first.
Reading<void> KlpArray::find_spacing() {
  const std::uint64_t end = end_of_array(module_, array_, starts_);
  const std::uint64_t window = array_.offset + kSmallest;
  const std::uint64_t window_end = array_.offset + 2 * kSmallest;
  if (window_end > end)
    return stop_corrupt(fmt::format("a {} array without an empty entry", name()));

  const auto found = module_.relocations(array_.section, window, window_end);
  if (found.empty()) {
    if (module_.relocations(array_.section, window_end, end).empty()) return {};
    return stop_unknown(fmt::format("where the {} array at {} ends cannot be told{}", name(),
                                    describe(module_, array_),
                                    module_.object_end(array_) ? "" : " without its symbol"));
  }
  std::uint64_t entry = found.front().offset;
  if (kind_ == Kind::objects) {
    // The first relocation of a klp_object is `name` followed by `funcs`, or `funcs` alone (or
    // followed by a callback).
    const auto after =
        module_.relocations(array_.section, entry + kPointerSize, entry + kPointerSize + 1);
    bool followed_by_data = false;
    if (!after.empty()) {
      const auto target = target_of(module_, after.front());
      if (!target) return std::unexpected(target.error());
      const auto place = target->place;
      followed_by_data = place && !module_.section(place->section).is_code();
    }
    if (!followed_by_data) entry -= kPointerSize;
  }
  spacing_ = entry - array_.offset;
  if (*spacing_ % kPointerSize != 0) {
    return stop_corrupt(fmt::format("a {} array with entries of {} bytes", name(), *spacing_));
  }
  return {};
}

Reading<std::optional<Place>> KlpArray::next() {
  if (count_ == 1) {
    if (auto found = find_spacing(); !found) return std::unexpected(found.error());
    if (!spacing_) return std::nullopt;
  }
  const Place entry{array_.section, array_.offset + count_ * spacing_.value_or(0)};
  const std::uint64_t end = end_of_array(module_, array_, starts_);
  const std::uint64_t size = spacing_.value_or(kSmallest);
  if (size > end || entry.offset > end - size) {
    return stop_corrupt(fmt::format("a {} array without an empty entry", name()));
  }
  const auto empty = is_empty(entry);
  if (!empty) return std::unexpected(empty.error());
  if (*empty) return std::nullopt;
  if (auto fields = check_fields(entry); !fields) return std::unexpected(fields.error());
  ++count_;
  return entry;
}

}  // namespace vpatch
