// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "introspect/error.h"
#include "introspect/guest/blockers.h"
#include "introspect/guest/symbolizer.h"

namespace vpatch::introspect {

/// Forbidden functions, and what the compiler has put elsewhere of them (symbols NAME.cold).
///
/// A cold part is jumped to: a task in it has no frame in the function itself, so that the kernel's
/// own check does not see it. The kernel looks at tasks where they sleep; whoever looks at a task
/// between any two instructions has to count these parts as the function.
struct ColdParts {
  std::vector<ForbiddenFunction> functions;
  std::vector<ForbiddenFunction> parts;
};

/// Looks up the cold parts by the functions' names; an error where a function has no symbol.
using PlaceOf = std::function<std::optional<Place>(const Frame&)>;  ///< Symbolizer::place()
Result<ColdParts> cold_parts_of(const PlaceOf& place_of, const SymbolsNamed& named,
                                std::vector<ForbiddenFunction> functions);
Result<ColdParts> cold_parts_of(const Symbolizer& symbols,
                                std::vector<ForbiddenFunction> functions);

}  // namespace vpatch::introspect
