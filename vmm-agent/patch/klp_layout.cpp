// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_layout.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/patch/klp_array.h"
#include "vmm-agent/patch/klp_built.h"
#include "vmm-agent/patch/klp_fields.h"
#include "vmm-agent/patch/klp_search.h"
#include "vmm-agent/patch/module_data.h"
#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxStates = 4096;
constexpr std::uint64_t kStateSize = 24;

namespace klp_patch {
constexpr std::uint64_t kObjs = 8;
constexpr std::uint64_t kStates = 16;
constexpr std::uint64_t kReplace = 24;
}  // namespace klp_patch

namespace klp_object {
constexpr std::uint64_t kName = 0;
constexpr std::uint64_t kFuncs = 8;
constexpr std::uint64_t kCallbacks = 16;
}  // namespace klp_object

namespace klp_func {
constexpr std::uint64_t kOldName = 0;
constexpr std::uint64_t kNewFunc = 8;
constexpr std::uint64_t kOldSympos = 16;
}  // namespace klp_func

namespace klp_state {
constexpr std::uint64_t kId = 0;
constexpr std::uint64_t kVersion = 8;
}  // namespace klp_state

class KlpReader {
 public:
  explicit KlpReader(const ElfModule& module) : module_(module) {}

  Reading<PatchContents> read(Place patch);

 private:
  Reading<Place> data_array(Place pointer, std::string_view what);
  Reading<std::vector<PatchedObject>> read_objects(Place array);
  Reading<PatchedObject> read_object(Place object);
  Reading<std::vector<PatchedFunction>> read_functions(Place array);
  Reading<std::vector<PatchState>> read_states(Place array);

  const ElfModule& module_;
  std::set<Place> starts_;  ///< where a structure of the patch is known to start
  std::size_t functions_ = 0;
};

/// The array that the pointer at `pointer` points at. It must be there, and in data.
Reading<Place> KlpReader::data_array(Place pointer, std::string_view what) {
  const auto read = read_pointer(module_, pointer);
  if (!read) return std::unexpected(read.error());
  const auto& target = *read;
  if (!target) return stop_corrupt(fmt::format("{} is NULL", what));
  const auto place = target->place;
  if (!place || module_.section(place->section).is_code()) {
    return stop_corrupt(fmt::format("{} is not in the module's data", what));
  }
  starts_.insert(*place);
  return *place;
}

Reading<PatchContents> KlpReader::read(Place patch) {
  PatchContents contents;
  starts_.insert(patch);
  const auto objects = data_array(patch + klp_patch::kObjs, "klp_patch.objs");
  if (!objects) return std::unexpected(objects.error());
  const auto replace = read_number(module_, patch + klp_patch::kReplace, 1);
  if (!replace) return std::unexpected(replace.error());
  if (*replace > 1) return stop_corrupt("klp_patch.replace is neither true nor false");
  contents.replace = *replace == 1;

  const auto has_states = read_pointer(module_, patch + klp_patch::kStates);
  if (!has_states) return std::unexpected(has_states.error());
  if (*has_states) {
    const auto array = data_array(patch + klp_patch::kStates, "klp_patch.states");
    if (!array) return std::unexpected(array.error());
    auto states = read_states(*array);
    if (!states) return std::unexpected(states.error());
    contents.states = std::move(*states);
  }
  auto list = read_objects(*objects);
  if (!list) return std::unexpected(list.error());
  contents.objects = std::move(*list);
  return contents;
}

Reading<std::vector<PatchedObject>> KlpReader::read_objects(Place array) {
  std::vector<PatchedObject> objects;
  std::vector<Place> places;
  // First the array itself: the function arrays it points at may bound each other.
  KlpArray walk(module_, KlpArray::Kind::objects, array, starts_);
  while (true) {
    const auto place = walk.next();
    if (!place) return std::unexpected(place.error());
    const auto& object = *place;
    if (!object) break;
    if (places.size() == kMaxObjects) {
      return stop_too_many(kMaxObjects, "objects");
    }
    places.push_back(*object);
    const auto functions = data_array(*object + klp_object::kFuncs, "klp_object.funcs");
    if (!functions) return std::unexpected(functions.error());
  }
  for (const Place place : places) {
    auto object = read_object(place);
    if (!object) return std::unexpected(object.error());
    objects.push_back(std::move(*object));
  }
  return objects;
}

Reading<PatchedObject> KlpReader::read_object(Place object) {
  PatchedObject result;
  auto name = read_object_name(module_, object + klp_object::kName);
  if (!name) return std::unexpected(name.error());
  result.name = std::move(*name);
  const auto callbacks = read_callbacks(module_, object + klp_object::kCallbacks);
  if (!callbacks) return std::unexpected(callbacks.error());
  result.callbacks = *callbacks;

  const auto array = data_array(object + klp_object::kFuncs, "klp_object.funcs");
  if (!array) return std::unexpected(array.error());
  auto functions = read_functions(*array);
  if (!functions) return std::unexpected(functions.error());
  result.functions = std::move(*functions);
  return result;
}

Reading<std::vector<PatchedFunction>> KlpReader::read_functions(Place array) {
  std::vector<PatchedFunction> functions;
  KlpArray walk(module_, KlpArray::Kind::functions, array, starts_);
  while (true) {
    const auto place = walk.next();
    if (!place) return std::unexpected(place.error());
    const auto& entry = *place;
    if (!entry) return functions;
    if (++functions_ > kMaxFunctions) {
      return stop_too_many(kMaxFunctions, "functions");
    }
    auto function = read_function(module_, {.name = *entry + klp_func::kOldName,
                                            .replacement = *entry + klp_func::kNewFunc,
                                            .position = *entry + klp_func::kOldSympos});
    if (!function) return std::unexpected(function.error());
    functions.push_back(std::move(*function));
  }
}

Reading<std::vector<PatchState>> KlpReader::read_states(Place array) {
  std::vector<PatchState> states;
  const auto symbol_end = module_.object_end(array);
  if (symbol_end && (*symbol_end - array.offset) % kStateSize != 0) {
    return stop_unknown("the entries of klp_patch.states have a size that is not known");
  }
  const std::uint64_t end = end_of_array(module_, array, starts_);
  for (Place state = array;; state = state + kStateSize) {
    if (end < kStateSize || state.offset > end - kStateSize) {
      return stop_corrupt("klp_patch.states does not end with an empty entry");
    }
    const auto id = read_number(module_, state + klp_state::kId, 8);
    if (!id) return std::unexpected(id.error());
    if (*id == 0) return states;
    if (states.size() == kMaxStates) {
      return stop_too_many(kMaxStates, "states");
    }
    const auto version = read_number(module_, state + klp_state::kVersion, 4);
    if (!version) return std::unexpected(version.error());
    states.push_back({*id, static_cast<std::uint32_t>(*version)});
  }
}

Reading<PatchContents> read_contents(const ElfModule& module) {
  if (auto built = read_built_patch(module)) return *std::move(built);
  const auto place = find_klp_patch(module);
  if (!place) return std::unexpected(place.error());
  return KlpReader(module).read(*place);
}

}  // namespace

Result<KlpReading> read_klp_patch(const ElfModule& module) {
  auto contents = read_contents(module);
  if (contents) return KlpReading{.contents = std::move(*contents), .unknown = {}};
  if (contents.error().kind == Stop::Kind::corrupt) return refuse_corrupt(contents.error().why);
  return KlpReading{.contents = std::nullopt, .unknown = std::move(contents.error().why)};
}

}  // namespace vpatch
