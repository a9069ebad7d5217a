// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "vmm-agent/rollout/window.h"

namespace vpatch::rollout {

/// At most one moment for each key. O(log n) of those that are set.
class Alarms {
 public:
  void set(std::uint32_t key, Time at) {
    clear(key);
    by_time_.emplace(at, key);
    by_key_.emplace(key, at);
  }

  void clear(std::uint32_t key) {
    const auto found = by_key_.find(key);
    if (found != by_key_.end()) {
      by_time_.erase({found->second, key});
      by_key_.erase(found);
    }
  }

  void clear() {
    by_time_.clear();
    by_key_.clear();
  }

  bool is_set(std::uint32_t key) const { return by_key_.contains(key); }

  std::optional<Time> next() const {
    return by_time_.empty() ? std::nullopt : std::optional(by_time_.begin()->first);
  }

  /// Takes the earliest of those that are due.
  std::optional<std::uint32_t> take_due(Time now) {
    if (by_time_.empty() || by_time_.begin()->first > now) {
      return std::nullopt;
    }
    const std::uint32_t key = by_time_.begin()->second;
    clear(key);
    return key;
  }

 private:
  std::set<std::pair<Time, std::uint32_t>> by_time_;
  std::unordered_map<std::uint32_t, Time> by_key_;
};

}  // namespace vpatch::rollout
