// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/klp_search.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>
#include <vector>

#include <elf.h>
#include <fmt/format.h>

namespace vpatch {
namespace {

constexpr std::string_view kEnablePatch = "klp_enable_patch";
constexpr std::string_view kThisModule = ".gnu.linkonce.this_module";
constexpr std::uint64_t kObjsOffset = 8;  ///< of klp_patch.objs

/// The code sections that refer to klp_enable_patch().
std::vector<std::uint32_t> calling_sections(const ElfModule& module) {
  const auto symbols = module.symbols();
  std::vector<bool> is_enable(symbols.size());
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    is_enable[i] =
        symbols[i].section == SHN_UNDEF && module.symbol_name(symbols[i]) == kEnablePatch;
  }
  std::vector<std::uint32_t> calling;
  for (std::uint32_t i = 1; i < module.section_count(); ++i) {
    if (!module.section(i).is_code()) continue;
    const auto calls = [&](const ElfRelocation& r) { return is_enable[r.symbol]; };
    if (std::ranges::any_of(module.relocations(i), calls)) calling.push_back(i);
  }
  return calling;
}

bool points_to_data(const ElfModule& module, const ElfRelocation& relocation) {
  const auto target = target_of(module, relocation);
  // A broken pointer stays: if this is the patch, reading it says what is wrong.
  if (!target) return true;
  const auto& place = target->place;
  return place && !module.section(place->section).is_code();
}

/// Whether klp_patch.objs could be behind `place`.
bool has_objects(const ElfModule& module, Place place) {
  const std::uint64_t at = place.offset + kObjsOffset;
  const auto objs = module.relocations(place.section, at, at + 1);
  return !module.section(place.section).is_code() && !objs.empty() &&
         points_to_data(module, objs.front());
}

/// The places that look like a klp_patch from inside, in order.
std::vector<Place> shaped_like_patch(const ElfModule& module, std::uint32_t this_module) {
  std::vector<Place> found;
  for (std::uint32_t i = 1; i < module.section_count(); ++i) {
    if (module.section(i).is_code()) continue;
    for (const auto& mod : module.relocations(i)) {
      if (mod.type != R_X86_64_64) continue;
      const auto owner = target_of(module, mod);
      if (!owner || owner->place != Place{this_module, 0}) continue;
      if (has_objects(module, {i, mod.offset})) found.push_back({i, mod.offset});
    }
  }
  return found;
}

/// What an instruction refers to with this relocation, if it is one that takes an address.
std::optional<Place> referred_to(const ElfModule& module, const ElfRelocation& relocation) {
  switch (relocation.type) {
    case R_X86_64_64:
    case R_X86_64_32:
    case R_X86_64_32S: {
      const auto target = target_of(module, relocation);
      return target ? target->place : std::nullopt;
    }
    case R_X86_64_PC32:
    case R_X86_64_PLT32: {
      // Relative to the end of the 4-byte operand, where `lea` ends too.
      const auto target = target_of(module, relocation, 4);
      return target ? target->place : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

/// Whether the relocation is of the operand of an instruction that puts an address into %rdi, where
/// a function's first argument is.
bool is_first_argument(const ElfModule& module, std::uint32_t section,
                       const ElfRelocation& relocation) {
  const auto code = module.section(section).bytes.slice(0, relocation.offset);
  if (!code) return false;
  const auto bytes = code->text();
  switch (relocation.type) {
    case R_X86_64_PC32:
    case R_X86_64_PLT32:
      return bytes.ends_with("\x48\x8d\x3d");  // lea patch(%rip), %rdi
    case R_X86_64_32S:
      return bytes.ends_with("\x48\xc7\xc7");  // mov $patch, %rdi
    case R_X86_64_32:
      // mov $patch, %edi, unless a REX.B prefix makes another register of it.
      return bytes.ends_with('\xbf') &&
             (bytes.size() == 1 || (static_cast<unsigned char>(bytes.end()[-2]) & 0xf1U) != 0x41U);
    default:
      return false;
  }
}

/// What each call of klp_enable_patch() is given, where the instruction before the call says so.
std::vector<Place> given_to_enable(const ElfModule& module, std::uint32_t section) {
  constexpr std::uint64_t kNear = 16;  ///< bytes from one operand to the next
  const auto relocations = module.relocations(section);
  std::vector<Place> given;
  for (std::size_t at = 1; at < relocations.size(); ++at) {
    const auto& call = relocations[at];
    const auto& before = relocations[at - 1];
    if (module.symbol_name(module.symbols()[call.symbol]) != kEnablePatch ||
        call.offset - before.offset > kNear || !is_first_argument(module, section, before)) {
      continue;
    }
    if (const auto place = referred_to(module, before)) given.push_back(*place);
  }
  return given;
}

}  // namespace

Reading<Place> find_klp_patch(const ElfModule& module) {
  const auto calling = calling_sections(module);
  if (calling.empty()) return stop_unknown("its code does not call klp_enable_patch()");
  const auto this_module = module.find_loaded(kThisModule);
  const auto section_index = this_module ? *this_module : std::nullopt;
  if (!section_index) return stop_unknown("it has no section for its struct module");

  const auto shaped = shaped_like_patch(module, *section_index);
  std::vector<Place> found;
  for (const std::uint32_t section : calling) {
    for (const auto& relocation : module.relocations(section)) {
      const auto place = referred_to(module, relocation);
      if (place && std::ranges::binary_search(shaped, *place)) found.push_back(*place);
    }
  }
  std::ranges::sort(found);
  const auto repeated = std::ranges::unique(found);
  found.erase(repeated.begin(), repeated.end());
  for (const std::uint32_t section : calling) {
    for (const Place& place : given_to_enable(module, section)) {
      // The kernel would follow a wrong pointer.
      if (has_objects(module, place) && !std::ranges::binary_search(shaped, place)) {
        return stop_corrupt(fmt::format("klp_patch.mod at {} is not this module's struct module",
                                        describe(module, place)));
      }
    }
  }
  if (found.empty()) return stop_unknown("no klp_patch structure is in its data");
  if (found.size() > 1) return stop_unknown("more than one klp_patch structure is in its data");
  return found.front();
}

}  // namespace vpatch
