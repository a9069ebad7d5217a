// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/operation_bench.h"

#include <algorithm>

namespace vpatch {

LivepatchFile file_of(const ModuleImage& image) {
  LivepatchFile file;
  file.bytes.resize(5000);
  file.name = image.name;
  file.vermagic = "6.1.0-test SMP mod_unload modversions";
  file.release = "6.1.0-test";
  file.build_id = image.build_id;
  PatchContents& contents = file.contents.emplace();
  contents.replace = image.replace;
  for (const GuestPatchedObject& object : image.objects) {
    PatchedObject& added = contents.objects.emplace_back();
    added.name = object.name;
    for (const std::string& function : object.functions) {
      added.functions.push_back(
          {.name = function.substr(0, function.rfind(',')), .position = 0, .replacement = ""});
    }
  }
  return file;
}

bool called(const FakeGuest& guest, std::string_view call) {
  return std::ranges::find(guest.calls, call) != guest.calls.end();
}

}  // namespace vpatch
