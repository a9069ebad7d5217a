// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/domain_state.h"

#include <array>

#include "vmm-agent/rollout/words.h"

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
  return parse_word<DomainState>(kWords, word);
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

bool revert_failed(const DomainRecord& record) {
  return record.state == DomainState::failed && record.before == DomainState::reverting;
}

}  // namespace vpatch::rollout
