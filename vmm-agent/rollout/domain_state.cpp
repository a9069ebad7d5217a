// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/domain_state.h"

#include <algorithm>
#include <array>

namespace vpatch::rollout {
namespace {

constexpr std::array<std::string_view, kDomainStates> kWords = {
    "waiting", "off",          "unmatched", "applying", "watching",   "done",   "already",
    "failed",  "inconclusive", "reverting", "reverted", "left-alone", "unknown"};

}  // namespace

std::string_view to_string(DomainState state) {
  return kWords.at(static_cast<std::size_t>(state));
}

std::optional<DomainState> parse_domain_state(std::string_view word) {
  const auto* found = std::ranges::find(kWords, word);
  if (found == kWords.end()) {
    return std::nullopt;
  }
  return static_cast<DomainState>(found - kWords.begin());
}

bool is_end(DomainState state) {
  switch (state) {
    case DomainState::off:
    case DomainState::unmatched:
    case DomainState::done:
    case DomainState::already:
    case DomainState::failed:
    case DomainState::reverted:
    case DomainState::left_alone:
      return true;
    case DomainState::waiting:
    case DomainState::applying:
    case DomainState::watching:
    case DomainState::inconclusive:
    case DomainState::reverting:
    case DomainState::unknown:
      break;
  }
  return false;
}

}  // namespace vpatch::rollout
