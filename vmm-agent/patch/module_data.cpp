// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/module_data.h"

#include <algorithm>
#include <cstddef>

#include <elf.h>
#include <fmt/format.h>

#include "vmm-agent/patch/modinfo.h"

namespace vpatch {
namespace {

constexpr std::uint64_t kPointerSize = 8;
constexpr std::size_t kMaxString = 511;
// Livepatch symbols (".klp.sym.OBJECT.NAME,POSITION") are resolved by the livepatch core, see
// <uapi/linux/elf.h>.
constexpr std::uint16_t kSectionIndexLivepatch = 0xFF20;

bool fits(const ElfModule& module, Place place, std::uint64_t width) {
  const std::uint64_t size = module.section(place.section).size;
  return width <= size && place.offset <= size - width;
}

/// Up to 8 bytes of the section's contents; zero where the file holds none (.bss).
std::uint64_t contents(const ElfModule& module, Place place, std::uint64_t width) {
  const auto bytes = module.section(place.section).bytes.slice(place.offset, width);
  std::uint64_t value = 0;
  if (bytes) std::memcpy(&value, bytes->bytes().data(), width);
  return value;
}

std::string_view symbol_at(const ElfModule& module, const ElfSymbol& symbol, Place place) {
  const bool exact = symbol.section == place.section && symbol.value == place.offset;
  if (exact && symbol.type != STT_SECTION) return module.symbol_name(symbol);
  return module.function_at(place).value_or(std::string_view{});
}

}  // namespace

std::string describe(const ElfModule& module, Place place) {
  return fmt::format("'{}'+{:#x}", displayable(module.section(place.section).name), place.offset);
}

Reading<Target> target_of(const ElfModule& module, const ElfRelocation& relocation,
                          std::int64_t bias) {
  const auto& symbol = module.symbols()[relocation.symbol];
  if (symbol.section == SHN_UNDEF || symbol.section == kSectionIndexLivepatch) {
    const auto name = module.symbol_name(symbol);
    if (name.empty()) return stop_corrupt("a pointer to a symbol without a name");
    return Target{.place = std::nullopt, .symbol = name};
  }
  if (symbol.section >= SHN_LORESERVE) return stop_corrupt("a pointer to no section of the module");

  const auto& section = module.section(symbol.section);
  std::int64_t addend = 0;
  std::uint64_t offset = 0;
  if (__builtin_add_overflow(relocation.addend, bias, &addend) ||
      __builtin_add_overflow(symbol.value, addend, &offset) || offset >= section.size) {
    return stop_corrupt(fmt::format("a pointer outside '{}'", displayable(section.name)));
  }
  if (!section.is_loaded()) {
    return stop_corrupt(
        fmt::format("a pointer to '{}', which is not loaded", displayable(section.name)));
  }
  const Place place{symbol.section, offset};
  return Target{.place = place, .symbol = symbol_at(module, symbol, place)};
}

Reading<std::optional<Target>> read_pointer(const ElfModule& module, Place place) {
  if (!fits(module, place, kPointerSize)) {
    return stop_corrupt("a pointer past the end of " + describe(module, place));
  }
  const auto found = module.relocations(place.section, place.offset, place.offset + kPointerSize);
  const std::uint64_t value = contents(module, place, kPointerSize);
  if (value != 0) {
    return stop_corrupt(
        fmt::format("the pointer at {} has a fixed value", describe(module, place)));
  }
  if (found.empty()) return std::nullopt;
  if (found.size() != 1 || found[0].offset != place.offset || found[0].type != R_X86_64_64) {
    return stop_corrupt(
        fmt::format("the relocation at {} does not make a pointer", describe(module, place)));
  }
  auto target = target_of(module, found[0]);
  if (!target) {
    target.error().why += fmt::format(" (at {})", describe(module, place));
    return std::unexpected(std::move(target.error()));
  }
  return *target;
}

Reading<std::uint64_t> read_number(const ElfModule& module, Place place, std::uint64_t width) {
  if (!fits(module, place, width)) {
    return stop_corrupt("a number past the end of " + describe(module, place));
  }
  if (!module.relocations(place.section, place.offset, place.offset + width).empty()) {
    return stop_corrupt(
        fmt::format("a relocation at {}, where a number is", describe(module, place)));
  }
  return contents(module, place, width);
}

Reading<std::string> read_string(const ElfModule& module, const Target& target) {
  if (!target.place || module.section(target.place->section).is_code()) {
    return stop_corrupt("a name that is not in the module's data");
  }
  const auto& section = module.section(target.place->section);
  const auto text = section.bytes.c_string(target.place->offset);
  const auto where = describe(module, *target.place);
  if (!text) return stop_corrupt(fmt::format("the name at {} does not end", where));
  if (text->size() > kMaxString)
    return stop_corrupt(fmt::format("the name at {} is too long", where));
  if (!is_printable_ascii(*text)) {
    return stop_corrupt(fmt::format("the name at {} is empty or not printable", where));
  }
  return std::string(*text);
}

}  // namespace vpatch
