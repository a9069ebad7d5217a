// SPDX-License-Identifier: Apache-2.0
// The chain that entries of the journal form, and its form as text: one JSON object a line. Each
// line holds the SHA-256 of the line before it, so that no line can be changed, removed or put in
// without changing all that follow. Whoever can write all of it can also make it anew: a hash that
// was noted elsewhere tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "vmm-agent/error.h"

namespace vpatch {

/// What the first entry has before it.
inline constexpr std::string_view kNoHash =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest detail that is written, far below the longest line that is read.
inline constexpr std::size_t kMaxDetail = std::size_t{16} << 20;

struct ChainEntry {
  std::int64_t link = 0;  ///< its place, from 1, without gaps
  std::int64_t operation = 0;
  std::int64_t sequence = 0;  ///< among the entries of its operation, from 1
  std::string at;
  std::string kind;
  std::string detail;  ///< the text of a JSON object
};

/// The entry's line, without the newline.
std::string line_of(const ChainEntry& entry, std::string_view previous);
/// The last line of an export: without it, nobody would see that the end is missing.
std::string closing_line(std::uint64_t entries, std::string_view head);

/// SHA-256 of a line, as sha256sum prints it.
std::string hash_of(std::string_view line);

/// What a look at a chain found.
struct Verification {
  std::uint64_t entries = 0;
  std::string head{kNoHash};          ///< hash of the last entry
  std::vector<std::string> problems;  ///< the first kMostProblems of them
  std::uint64_t more_problems = 0;

  static constexpr std::size_t kMostProblems = 100;

  bool sound() const { return problems.empty(); }
  void add(std::string problem);
};

/// Verifies an export. Lines are untrusted: any bytes, at most 64 MiB each. Throws what reading the
/// stream's buffer throws: std::ios_base::failure.
Verification verify_export(std::istream& lines);

}  // namespace vpatch
