// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/window.h"

namespace vpatch::rollout {

/// Index of a domain in the fleet of a rollout.
using DomainId = std::uint32_t;
/// Index of a connection (a libvirt URI, or the host that is driven for it).
using ConnectionId = std::uint32_t;

/// Where a domain stands in a rollout.
enum class DomainState : std::uint8_t {
  waiting,       ///< its turn has not come
  off,           ///< it does not run; recorded, and left to `vpatch ensure`
  unmatched,     ///< no file of the plan is for its kernel
  applying,      ///< the apply runs
  watching,      ///< patched; its health is watched
  done,          ///< patched, and healthy for as long as asked
  already,       ///< the livepatch was in force before
  failed,        ///< the outcome and the text tell how
  inconclusive,  ///< patched, but its health could not be told: that has paused the rollout
  reverting,     ///< the revert runs
  reverted,      ///< as it was before the rollout
  left_alone,    ///< the rollout ended before it was begun
  unknown,       ///< connection lost or vpatch died meanwhile: the guest is to be looked at
};

inline constexpr std::size_t kDomainStates = 13;

/// A stable word for each, for the journal and for --json: "waiting", "left-alone", ...
std::string_view to_string(DomainState state);
/// The state of such a word.
std::optional<DomainState> parse_domain_state(std::string_view word);

/// Whether the rollout has nothing more to do there, unless it is rolled back.
bool is_end(DomainState state);

/// All that is journaled of a domain, and all that a rollout is restored from.
struct DomainRecord {
  DomainState state = DomainState::waiting;
  /// Of unknown: what it was before. Of failed: reverting, when it was the revert that failed.
  DomainState before = DomainState::waiting;
  bool touched = false;       ///< the livepatch of this rollout is in force in it, or may be, or is
                              ///< registered for it while it is off
  bool failure = false;       ///< it has counted against the budget
  std::uint8_t attempts = 0;  ///< of this apply or revert, cut off ones included
  std::uint32_t order = 0;    ///< it was the so-manieth to be patched, from 1; 0: it was not
  std::optional<Outcome> outcome{};  ///< of the last apply or revert, or of what was made of it
  std::string text{};                ///< one line: why it is in this state, where that needs words
  Time since{};                      ///< when it came into this state

  friend bool operator==(const DomainRecord&, const DomainRecord&) = default;
};

bool revert_failed(const DomainRecord& record);

}  // namespace vpatch::rollout
