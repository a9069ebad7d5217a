// SPDX-License-Identifier: Apache-2.0
#include "introspect/guest/cold_parts.h"

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace vpatch::introspect {

Result<ColdParts> cold_parts_of(const PlaceOf& place_of, const SymbolsNamed& named,
                                std::vector<ForbiddenFunction> functions) {
  ColdParts cold;
  for (const ForbiddenFunction& function : functions) {
    const auto place = place_of({.address = function.code.start(), .exact = true});
    if (!place || place->offset != 0) {
      return fail(Errc::not_found, fmt::format("no symbol is known for the code of {}:{}",
                                               function.object, function.name));
    }
    const std::string object = place->module.empty() ? "vmlinux" : place->module;
    const auto parts = named(object, place->function + ".cold");
    if (!parts) {
      return std::unexpected(parts.error());
    }
    for (const Symbol& part : *parts) {
      const auto code = VirtRange::make(part.address, part.size);
      if (!code || code->empty()) {
        return fail(Errc::corrupt,
                    fmt::format("the size of {}:{} is not known", object, part.name));
      }
      cold.parts.push_back({object, part.name, *code});
    }
  }
  cold.functions = std::move(functions);
  return cold;
}

Result<ColdParts> cold_parts_of(const Symbolizer& symbols,
                                std::vector<ForbiddenFunction> functions) {
  return cold_parts_of(
      [&](const Frame& frame) { return symbols.place(frame); },
      [&](std::string_view object, std::string_view name) { return symbols.named(object, name); },
      std::move(functions));
}

}  // namespace vpatch::introspect
