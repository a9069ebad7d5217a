// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/exporter/journal_figures.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fmt/format.h>
#include <sys/stat.h>

namespace vpatch::exporter {
namespace {

constexpr std::size_t kPage = 1000;  ///< operations read at one time
constexpr double kMicro = 1e-6;

/// 6.1 needs milliseconds with help and seconds without; --timeout gives up after a minute or so.
std::vector<double> transition_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

/// --max-pause is 20 ms, and up to 1 s.
std::vector<double> pause_bounds() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1};
}

constexpr std::array kOutcomes = {Outcome::done,
                                  Outcome::refused,
                                  Outcome::stalled_reverted,
                                  Outcome::stalled_waiting,
                                  Outcome::unreachable,
                                  Outcome::failed_restored,
                                  Outcome::failed_needs_look,
                                  Outcome::internal};

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : bounds(std::move(upper_bounds)), counts(bounds.size() + 1) {}

void Histogram::add(double value) {
  const auto bucket = std::ranges::lower_bound(bounds, value) - bounds.begin();
  ++counts[static_cast<std::size_t>(bucket)];
  sum += value;
}

Figures::Figures() {
  for (const char* verb : kVerbs) {
    for (const Outcome outcome : kOutcomes) {
      operations.try_emplace({verb, std::string(to_string(outcome))}, 0);
    }
    transitions.try_emplace(verb, transition_bounds());
    pauses.try_emplace(verb, pause_bounds());
  }
}

void Figures::add(const StoredOperation& operation) {
  if (!operation.end) {
    return;
  }
  const OperationEnd& end = *operation.end;
  const auto* const known = std::ranges::find(kVerbs, operation.start.verb);
  const std::string verb = known == kVerbs.end() ? "other" : *known;
  ++operations[{verb, std::string(to_string(end.outcome))}];
  const double pause = static_cast<double>(end.pause_us.value_or(0)) * kMicro;
  if (end.pauses > 0 && end.pause_us) {
    pauses.try_emplace(verb, pause_bounds()).first->second.add(pause);
  }
  if (!end.transition_us) {
    return;
  }
  const double transition = static_cast<double>(*end.transition_us) * kMicro;
  transitions.try_emplace(verb, transition_bounds()).first->second.add(transition);
  LastTransition& newest = last[operation.start.identity];
  if (newest.operation <= operation.id) {
    newest = {operation.id, transition, pause};
  }
}

Result<void> JournalFigures::update() {
  struct stat info{};
  if (stat(path_.c_str(), &info) != 0) {
    if (errno == ENOENT) {
      return {};
    }
    return fail(Outcome::refused, fmt::format("journal {}: {}", path_.string(),
                                              std::generic_category().message(errno)));
  }
  const std::pair<std::uint64_t, std::uint64_t> file{info.st_dev, info.st_ino};
  if (file != file_) {
    *this = JournalFigures(path_);
    file_ = file;
  }
  auto journal = Journal::open(path_);
  if (!journal) {
    return std::unexpected(std::move(journal.error()));
  }
  const auto last = journal->operations({.limit = 1});
  if (!last) {
    return std::unexpected(last.error());
  }
  if ((last->empty() ? OperationId{} : last->front().id) < newest_) {
    *this = JournalFigures(path_);  // another file, to which the inode was given again
    file_ = file;
  }
  return read(*journal);
}

Result<void> JournalFigures::read(Journal& journal) {
  std::vector<OperationId> still;
  for (const OperationId id : std::exchange(unfinished_, {})) {
    const auto found = journal.operations({.id = id});
    if (found && !found->empty() && found->front().end) {
      figures_.add(found->front());
    } else if (!found || !found->empty()) {
      still.push_back(id);
    }
  }
  unfinished_ = std::move(still);
  for (;;) {
    const auto page = journal.operations_after(newest_, kPage);
    if (!page) {
      return std::unexpected(page.error());
    }
    for (const StoredOperation& operation : *page) {
      newest_ = operation.id;
      if (operation.end) {
        figures_.add(operation);
      } else {
        unfinished_.push_back(operation.id);
      }
    }
    if (page->size() < kPage) {
      return {};
    }
  }
}

}  // namespace vpatch::exporter
