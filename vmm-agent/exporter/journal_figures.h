// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm-agent/journal/journal.h"

namespace vpatch::exporter {

/// Counts of values by size.
struct Histogram {
  explicit Histogram(std::vector<double> upper_bounds);
  void add(double value);

  std::vector<double> bounds;         ///< of the buckets but the last, which has none
  std::vector<std::uint64_t> counts;  ///< of each bucket alone; one more than bounds
  double sum = 0;
};

/// Of a domain's newest operation with a transition.
struct LastTransition {
  OperationId operation{};
  double transition_seconds = 0;
  double pause_seconds = 0;  ///< all pauses together
};

/// What all operations of a journal amount to.
struct Figures {
  /// The verbs that have their own series; any other counts as "other".
  static constexpr std::array<const char*, 4> kVerbs = {"apply", "revert", "force", "ensure"};

  Figures();
  void add(const StoredOperation& operation);

  /// Ended ones, by verb and outcome; those of kVerbs are there from the start, at 0.
  std::map<std::pair<std::string, std::string>, std::uint64_t> operations;
  std::map<std::string, Histogram> transitions;  ///< seconds, by verb
  std::map<std::string, Histogram> pauses;       ///< of operations that paused, seconds, by verb
  std::map<std::string, LastTransition> last;    ///< by identity of the domain
};

/// Figures that follow a journal: each operation is read until it has ended, and counted once. They
/// are of the whole journal, so that a new reader comes to the same.
class JournalFigures {
 public:
  explicit JournalFigures(std::filesystem::path journal) : path_(std::move(journal)) {}

  /// Reads what is new. A journal that is not there is empty, and is not made; another file in its
  /// place begins anew. Blocks as Journal does.
  Result<void> update();
  const Figures& figures() const { return figures_; }

 private:
  Result<void> read(Journal& journal);

  std::filesystem::path path_;
  std::pair<std::uint64_t, std::uint64_t> file_{};  ///< device and inode
  OperationId newest_{};
  std::vector<OperationId> unfinished_;
  Figures figures_;
};

}  // namespace vpatch::exporter
