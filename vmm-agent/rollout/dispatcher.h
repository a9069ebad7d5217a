// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "vmm-agent/rollout/domain_state.h"

namespace vpatch::rollout {

/// What a domain waits in line for, the most urgent first.
enum class Errand : std::uint8_t {
  look,    ///< what was begun is to be brought to its end
  revert,  ///< of a rollback
  begin,   ///< something new
};

/// Who is next, under the limits on how many domains are at work in all and on one connection. A
/// connection that is not up, or full, is passed over: it holds up nobody else. O(log n) for each
/// call.
class Dispatcher {
 public:
  Dispatcher(std::size_t connections, std::size_t parallel, std::size_t parallel_per_connection);

  /// Puts a domain in line; of one errand the lower `rank` goes first.
  void push(ConnectionId connection, Errand errand, std::uint32_t rank, DomainId domain);
  /// Takes the next one off the line whose errand is `last` or more urgent, if there is room for
  /// it. The caller calls start() where it has it at work.
  std::optional<DomainId> pop(Errand last);
  /// Takes all of one connection off its line, whether there is room for them or not.
  std::vector<DomainId> drain(ConnectionId connection);
  /// Empties all lines. Who is at work stays so.
  void clear();

  void start(ConnectionId connection, DomainId domain);
  void stop(ConnectionId connection, DomainId domain);
  /// How many are at work.
  std::size_t at_work() const { return at_work_; }
  std::span<const DomainId> at_work(ConnectionId connection) const;

  void set_up(ConnectionId connection, bool up);
  bool is_up(ConnectionId connection) const { return lines_[connection].up; }
  std::size_t connections() const { return lines_.size(); }

 private:
  using Place = std::tuple<Errand, std::uint32_t, DomainId>;
  struct Line {
    std::priority_queue<Place, std::vector<Place>, std::greater<>> places;
    std::vector<DomainId> at_work;
    bool up = false;
    std::optional<Place> listed{};  ///< how ready_ knows it
  };

  /// Has ready_ know a line by its first place, if anybody of it may be taken.
  void list(ConnectionId connection);

  std::vector<Line> lines_;
  std::set<std::pair<Place, ConnectionId>> ready_;
  std::size_t at_work_ = 0;
  std::size_t parallel_;
  std::size_t parallel_per_connection_;
};

}  // namespace vpatch::rollout
