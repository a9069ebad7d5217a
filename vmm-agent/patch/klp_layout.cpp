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
#include "vmm-agent/patch/klp_search.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/module_data.h"
#include "vmm-agent/patch/refusal.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxObjects = 4096;
constexpr std::size_t kMaxFunctions = 65536;
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
constexpr std::uint64_t kPrePatch = 16;
constexpr std::uint64_t kPostPatch = 24;
constexpr std::uint64_t kPreUnpatch = 32;
constexpr std::uint64_t kPostUnpatch = 40;
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

Place operator+(Place place, std::uint64_t offset) {
  return {place.section, place.offset + offset};
}

class KlpReader {
 public:
  explicit KlpReader(const ElfModule& module) : module_(module) {}

  Reading<PatchContents> read(Place patch);

 private:
  Reading<Place> data_array(Place pointer, std::string_view what);
  Reading<std::optional<Target>> code_pointer(Place pointer);
  Reading<std::vector<PatchedObject>> read_objects(Place array);
  Reading<PatchedObject> read_object(Place object);
  Reading<PatchCallbacks> read_callbacks(Place object);
  Reading<std::vector<PatchedFunction>> read_functions(Place array);
  Reading<PatchedFunction> read_function(Place function);
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

/// The function that the pointer at `pointer` points at, in the module or outside; nothing for
/// NULL.
Reading<std::optional<Target>> KlpReader::code_pointer(Place pointer) {
  auto read = read_pointer(module_, pointer);
  if (!read) return read;
  const auto& target = *read;
  if (!target) return read;
  const auto place = target->place;
  if (place && !module_.section(place->section).is_code()) {
    return stop_corrupt(
        fmt::format("the function pointer at {} points at data", describe(module_, pointer)));
  }
  return read;
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
      return stop_corrupt(fmt::format("more than {} objects", kMaxObjects));
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
  const auto name = read_pointer(module_, object + klp_object::kName);
  if (!name) return std::unexpected(name.error());
  if (const auto& place = *name) {
    auto text = read_string(module_, *place);
    if (!text) return std::unexpected(text.error());
    if (!is_module_name(*text)) {
      return stop_corrupt(fmt::format("an object named \"{}\", which no module can be", *text));
    }
    // NULL stands for the kernel itself. With this name the kernel would wait for a module of that
    // name, for ever.
    if (*text == "vmlinux") return stop_corrupt("an object for a module named \"vmlinux\"");
    result.name = std::move(*text);
  } else {
    result.name = "vmlinux";
  }
  const auto callbacks = read_callbacks(object);
  if (!callbacks) return std::unexpected(callbacks.error());
  result.callbacks = *callbacks;

  const auto array = data_array(object + klp_object::kFuncs, "klp_object.funcs");
  if (!array) return std::unexpected(array.error());
  auto functions = read_functions(*array);
  if (!functions) return std::unexpected(functions.error());
  result.functions = std::move(*functions);
  return result;
}

Reading<PatchCallbacks> KlpReader::read_callbacks(Place object) {
  PatchCallbacks callbacks;
  const std::pair<std::uint64_t, bool PatchCallbacks::*> fields[] = {
      {klp_object::kPrePatch, &PatchCallbacks::pre_patch},
      {klp_object::kPostPatch, &PatchCallbacks::post_patch},
      {klp_object::kPreUnpatch, &PatchCallbacks::pre_unpatch},
      {klp_object::kPostUnpatch, &PatchCallbacks::post_unpatch},
  };
  for (const auto& [offset, field] : fields) {
    const auto callback = code_pointer(object + offset);
    if (!callback) return std::unexpected(callback.error());
    callbacks.*field = callback->has_value();
  }
  return callbacks;
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
      return stop_corrupt(fmt::format("more than {} functions", kMaxFunctions));
    }
    auto function = read_function(*entry);
    if (!function) return std::unexpected(function.error());
    functions.push_back(std::move(*function));
  }
}

Reading<PatchedFunction> KlpReader::read_function(Place function) {
  const auto name = read_pointer(module_, function + klp_func::kOldName);
  if (!name) return std::unexpected(name.error());
  const auto& place = *name;
  if (!place) {
    return stop_corrupt(fmt::format("the function at {} has no name", describe(module_, function)));
  }
  auto text = read_string(module_, *place);
  if (!text) return std::unexpected(text.error());
  const auto position = read_number(module_, function + klp_func::kOldSympos, 8);
  if (!position) return std::unexpected(position.error());

  const auto read = code_pointer(function + klp_func::kNewFunc);
  if (!read) return std::unexpected(read.error());
  const auto& replacement = *read;
  return PatchedFunction{.name = std::move(*text),
                         .position = *position,
                         .replacement = replacement ? displayable(replacement->symbol) : ""};
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
      return stop_corrupt(fmt::format("more than {} states", kMaxStates));
    }
    const auto version = read_number(module_, state + klp_state::kVersion, 4);
    if (!version) return std::unexpected(version.error());
    states.push_back({*id, static_cast<std::uint32_t>(*version)});
  }
}

}  // namespace

Result<KlpReading> read_klp_patch(const ElfModule& module) {
  const auto place = find_klp_patch(module);
  auto contents = place ? KlpReader(module).read(*place)
                        : Reading<PatchContents>(std::unexpected(place.error()));
  if (contents) return KlpReading{.contents = std::move(*contents), .unknown = {}};
  if (contents.error().kind == Stop::Kind::corrupt) return refuse_corrupt(contents.error().why);
  return KlpReading{.contents = std::nullopt, .unknown = std::move(contents.error().why)};
}

}  // namespace vpatch
