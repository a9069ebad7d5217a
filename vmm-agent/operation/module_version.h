// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <string_view>

namespace vpatch {

/// Compares two MODULE_VERSIONs as people read them: runs of digits as numbers, runs of letters by
/// the alphabet, other characters only separate. "1.10" is newer than "1.9", and "2.1" than "2":
/// what goes on is newer than what ends.
std::strong_ordering compare_versions(std::string_view a, std::string_view b);

}  // namespace vpatch
