// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_built.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vmm-agent/patch/klp_fields.h"
#include "vmm-agent/patch/modinfo.h"

namespace vpatch {
namespace {

/// kpatch's struct kpatch_patch_func, one for each function (kmod/patch/kpatch-patch.h).
namespace kpatch_func {
constexpr std::uint64_t kNewAddr = 0;
constexpr std::uint64_t kSympos = 32;
constexpr std::uint64_t kName = 40;
constexpr std::uint64_t kObjname = 48;
constexpr std::uint64_t kSize = 56;
}  // namespace kpatch_func

/// Of each callback: the function, and the name of its object.
constexpr std::uint64_t kKpatchCallbackSize = 16;

/// klp-build's structures in <linux/livepatch_external.h>.
namespace klp_object_ext {
constexpr std::uint64_t kName = 0;
constexpr std::uint64_t kFuncs = 8;
constexpr std::uint64_t kCallbacks = 16;
constexpr std::uint64_t kCount = 56;
constexpr std::uint64_t kSize = 64;
}  // namespace klp_object_ext

namespace klp_func_ext {
constexpr std::uint64_t kOldName = 0;
constexpr std::uint64_t kNewFunc = 8;
constexpr std::uint64_t kSympos = 16;
constexpr std::uint64_t kSize = 24;
}  // namespace klp_func_ext

/// Each reads its part into `contents_`, and may call what does not fit corrupt.
class BuiltReader {
 public:
  explicit BuiltReader(const ElfModule& module) : module_(module) { contents_.replace.reset(); }

  Reading<PatchContents> read_kpatch(std::uint32_t functions);
  Reading<PatchContents> read_klp_build(std::uint32_t objects);

 private:
  Reading<std::string> kpatch_object(Place pointer);
  Reading<void> read_kpatch_callbacks(std::string_view section, bool PatchCallbacks::* field);
  Reading<PatchedObject> read_object(Place object);
  Reading<PatchedObject*> object(const std::string& name);

  const ElfModule& module_;
  PatchContents contents_;
  std::map<std::string, std::size_t> objects_;  ///< where in `contents_`, by name
  std::size_t functions_ = 0;
};

Reading<PatchedObject*> BuiltReader::object(const std::string& name) {
  auto& objects = contents_.objects;
  const auto [found, is_new] = objects_.try_emplace(name, objects.size());
  if (is_new) {
    if (objects.size() == kMaxObjects) return stop_too_many(kMaxObjects, "objects");
    objects.push_back({.name = name, .functions = {}, .callbacks = {}});
  }
  return &objects[found->second];
}

/// Here the kernel itself has a name too.
Reading<std::string> BuiltReader::kpatch_object(Place pointer) {
  const auto target = read_pointer(module_, pointer);
  if (!target) return std::unexpected(target.error());
  const auto& place = *target;
  if (!place) return stop_corrupt("an entry without an object");
  auto name = read_string(module_, *place);
  if (name && !is_module_name(*name)) return stop_corrupt("an object that no module can be");
  return name;
}

Reading<PatchContents> BuiltReader::read_kpatch(std::uint32_t functions) {
  const std::uint64_t size = module_.section(functions).size;
  if (size % kpatch_func::kSize != 0 || size / kpatch_func::kSize > kMaxFunctions) {
    return stop_corrupt(".kpatch.funcs has entries of another size");
  }
  for (Place entry{functions, 0}; entry.offset < size; entry = entry + kpatch_func::kSize) {
    const auto name = kpatch_object(entry + kpatch_func::kObjname);
    if (!name) return std::unexpected(name.error());
    auto function = read_function(module_, {.name = entry + kpatch_func::kName,
                                            .replacement = entry + kpatch_func::kNewAddr,
                                            .position = entry + kpatch_func::kSympos});
    if (!function) return std::unexpected(function.error());
    const auto patched = object(*name);
    if (!patched) return std::unexpected(patched.error());
    (*patched)->functions.push_back(std::move(*function));
  }
  const std::pair<std::string_view, bool PatchCallbacks::*> callbacks[] = {
      {".kpatch.callbacks.pre_patch", &PatchCallbacks::pre_patch},
      {".kpatch.callbacks.post_patch", &PatchCallbacks::post_patch},
      {".kpatch.callbacks.pre_unpatch", &PatchCallbacks::pre_unpatch},
      {".kpatch.callbacks.post_unpatch", &PatchCallbacks::post_unpatch}};
  for (const auto& [section, field] : callbacks) {
    if (auto read = read_kpatch_callbacks(section, field); !read) {
      return std::unexpected(read.error());
    }
  }
  return std::move(contents_);
}

/// The linker puts 8 bytes of padding at the end.
Reading<void> BuiltReader::read_kpatch_callbacks(std::string_view section,
                                                 bool PatchCallbacks::* field) {
  const auto found = module_.find_loaded(section);
  if (!found) return stop_corrupt(found.error().what);
  const auto& index = *found;
  if (!index) return {};
  const std::uint64_t count = module_.section(*index).size / kKpatchCallbackSize;
  if (count > kMaxFunctions) return stop_corrupt("too many callbacks");
  for (std::uint64_t at = 0; at < count; ++at) {
    const Place entry{*index, at * kKpatchCallbackSize};
    const auto callback = read_code_pointer(module_, entry);
    if (!callback) return std::unexpected(callback.error());
    if (!callback->has_value()) return stop_corrupt("a callback without a function");
    const auto name = kpatch_object(entry + 8);
    if (!name) return std::unexpected(name.error());
    const auto patched = object(*name);
    if (!patched) return std::unexpected(patched.error());
    (*patched)->callbacks.*field = true;
  }
  return {};
}

Reading<PatchContents> BuiltReader::read_klp_build(std::uint32_t objects) {
  const std::uint64_t size = module_.section(objects).size;
  if (size % klp_object_ext::kSize != 0) {
    return stop_corrupt("its objects have entries of another size");
  }
  if (size / klp_object_ext::kSize > kMaxObjects) return stop_too_many(kMaxObjects, "objects");
  for (Place entry{objects, 0}; entry.offset < size; entry = entry + klp_object_ext::kSize) {
    auto one = read_object(entry);
    if (!one) return std::unexpected(one.error());
    contents_.objects.push_back(std::move(*one));
  }
  return std::move(contents_);
}

Reading<PatchedObject> BuiltReader::read_object(Place entry) {
  PatchedObject result;
  auto name = read_object_name(module_, entry + klp_object_ext::kName);
  if (!name) return std::unexpected(name.error());
  result.name = std::move(*name);
  const auto callbacks = read_callbacks(module_, entry + klp_object_ext::kCallbacks);
  if (!callbacks) return std::unexpected(callbacks.error());
  result.callbacks = *callbacks;

  const auto count = read_number(module_, entry + klp_object_ext::kCount, 4);
  if (!count) return std::unexpected(count.error());
  functions_ += *count;
  if (functions_ > kMaxFunctions) {
    return stop_too_many(kMaxFunctions, "functions");
  }
  const auto funcs = read_pointer(module_, entry + klp_object_ext::kFuncs);
  if (!funcs) return std::unexpected(funcs.error());
  const auto array = *funcs ? (*funcs)->place : std::nullopt;
  if (*count > 0 && !array) return stop_corrupt("an object without its functions");
  for (std::uint64_t at = 0; at < *count; ++at) {
    const Place function = *array + at * klp_func_ext::kSize;
    auto read = read_function(module_, {.name = function + klp_func_ext::kOldName,
                                        .replacement = function + klp_func_ext::kNewFunc,
                                        .position = function + klp_func_ext::kSympos});
    if (!read) return std::unexpected(read.error());
    result.functions.push_back(std::move(*read));
  }
  return result;
}

/// What does not fit may be a later form of the sections as well.
Reading<PatchContents> as_unknown(Reading<PatchContents> read, std::string_view tool) {
  if (read) return read;
  return stop_unknown(
      fmt::format("built by {}, in a form that is not known here: {}", tool, read.error().why));
}

}  // namespace

std::optional<Reading<PatchContents>> read_built_patch(const ElfModule& module) {
  std::optional<std::uint32_t> kpatch, functions, objects;
  for (std::uint32_t i = 1; i < module.section_count(); ++i) {
    const auto name = module.section(i).name;
    if (!module.section(i).is_loaded()) continue;
    if (name.starts_with(".kpatch.")) kpatch = i;
    if (name == ".kpatch.funcs") functions = i;
    // The second is the name before Linux 7.0.
    if (name == ".init.klp_objects" || name == "__klp_objects") objects = i;
  }
  if (functions) return as_unknown(BuiltReader(module).read_kpatch(*functions), "kpatch-build");
  if (kpatch) return stop_unknown("built by kpatch-build, without a list of functions");
  if (objects) return as_unknown(BuiltReader(module).read_klp_build(*objects), "klp-build");
  return std::nullopt;
}

}  // namespace vpatch
