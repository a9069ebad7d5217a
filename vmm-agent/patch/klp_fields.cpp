// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_fields.h"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/patch/modinfo.h"

namespace vpatch {

std::unexpected<Stop> stop_too_many(std::size_t limit, std::string_view what) {
  return stop_corrupt(fmt::format("more than {} {}", limit, what));
}

Reading<std::optional<Target>> read_code_pointer(const ElfModule& module, Place pointer) {
  auto read = read_pointer(module, pointer);
  if (!read) return read;
  const auto& target = *read;
  if (!target) return read;
  const auto place = target->place;
  if (place && !module.section(place->section).is_code()) {
    return stop_corrupt(
        fmt::format("the function pointer at {} points at data", describe(module, pointer)));
  }
  return read;
}

Reading<std::string> read_object_name(const ElfModule& module, Place pointer) {
  const auto name = read_pointer(module, pointer);
  if (!name) return std::unexpected(name.error());
  const auto& place = *name;
  if (!place) return "vmlinux";
  auto text = read_string(module, *place);
  if (!text) return text;
  if (!is_module_name(*text)) {
    return stop_corrupt(fmt::format("an object named \"{}\", which no module can be", *text));
  }
  // The kernel would wait for a module of that name, for ever.
  if (*text == "vmlinux") return stop_corrupt("an object for a module named \"vmlinux\"");
  return text;
}

Reading<PatchCallbacks> read_callbacks(const ElfModule& module, Place first) {
  PatchCallbacks callbacks;
  std::uint64_t offset = 0;
  for (bool PatchCallbacks::* field :
       {&PatchCallbacks::pre_patch, &PatchCallbacks::post_patch, &PatchCallbacks::pre_unpatch,
        &PatchCallbacks::post_unpatch}) {
    const auto callback = read_code_pointer(module, first + offset);
    if (!callback) return std::unexpected(callback.error());
    callbacks.*field = callback->has_value();
    offset += 8;
  }
  return callbacks;
}

Reading<PatchedFunction> read_function(const ElfModule& module, const FunctionPlaces& places) {
  const auto name = read_pointer(module, places.name);
  if (!name) return std::unexpected(name.error());
  const auto& place = *name;
  if (!place) {
    return stop_corrupt(
        fmt::format("the function at {} has no name", describe(module, places.name)));
  }
  auto text = read_string(module, *place);
  if (!text) return std::unexpected(text.error());
  const auto position = read_number(module, places.position, 8);
  if (!position) return std::unexpected(position.error());

  const auto read = read_code_pointer(module, places.replacement);
  if (!read) return std::unexpected(read.error());
  const auto& replacement = *read;
  return PatchedFunction{.name = std::move(*text),
                         .position = *position,
                         .replacement = replacement ? displayable(replacement->symbol) : ""};
}

}  // namespace vpatch
