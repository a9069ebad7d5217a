// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm-agent/rollout/domain_state.h"

namespace vpatch::rollout {

/// How many domains are in each state.
class StateCounts {
 public:
  std::uint32_t of(DomainState state) const { return counts_[static_cast<std::size_t>(state)]; }
  void add(DomainState state, std::uint32_t domains = 1) {
    counts_[static_cast<std::size_t>(state)] += domains;
  }
  void remove(DomainState state) { --counts_[static_cast<std::size_t>(state)]; }

  /// Whether each of them is in an end state.
  bool all_ended() const {
    for (std::size_t state = 0; state < kDomainStates; ++state) {
      if (counts_[state] != 0 && !is_end(static_cast<DomainState>(state))) {
        return false;
      }
    }
    return true;
  }

  friend bool operator==(const StateCounts&, const StateCounts&) = default;

 private:
  std::array<std::uint32_t, kDomainStates> counts_{};
};

/// The same for each wave, kept up by each change.
class Tally {
 public:
  explicit Tally(std::size_t waves) : waves_(waves) {}

  void add(std::size_t wave, DomainState state) {
    waves_[wave].add(state);
    all_.add(state);
  }
  void move(std::size_t wave, DomainState from, DomainState to) {
    waves_[wave].remove(from);
    all_.remove(from);
    add(wave, to);
  }

  const StateCounts& wave(std::size_t wave) const { return waves_[wave]; }
  const std::vector<StateCounts>& waves() const { return waves_; }
  const StateCounts& all() const { return all_; }

 private:
  std::vector<StateCounts> waves_;
  StateCounts all_;
};

}  // namespace vpatch::rollout
