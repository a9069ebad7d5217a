// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/rollout/event.h"

#include <array>

#include "vmm-agent/rollout/words.h"

namespace vpatch::rollout {
namespace {

constexpr std::array<std::string_view, 4> kCommandWords = {"pause", "resume", "abort", "rollback"};

}  // namespace

std::string_view to_string(Command::Kind kind) {
  return kCommandWords.at(static_cast<std::size_t>(kind));
}

std::optional<Command::Kind> parse_command_kind(std::string_view word) {
  return parse_word<Command::Kind>(kCommandWords, word);
}

std::string_view to_string(ActionKind kind) {
  constexpr std::array<std::string_view, 5> kWords = {"look", "apply", "check-health", "revert",
                                                      "cancel"};
  return kWords.at(static_cast<std::size_t>(kind));
}

}  // namespace vpatch::rollout
