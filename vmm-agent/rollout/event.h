// SPDX-License-Identifier: Apache-2.0
// What happens to a rollout, and the actions that answer it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "vmm-agent/error.h"
#include "vmm-agent/rollout/domain_state.h"

namespace vpatch::rollout {

/// Tells the answer to an action from late ones to those before it. Never 0.
using OperationId = std::uint64_t;

// What happens to a rollout.

/// An apply or a revert has ended.
struct Finished {
  enum class Found : std::uint8_t {
    nothing_special,
    in_force,  ///< an apply changed nothing: the livepatch was in force
    off,       ///< an apply changed nothing: the domain did not run
  };
  DomainId domain = 0;
  OperationId operation = 0;
  Outcome outcome = Outcome::done;  ///< the verb's exit code
  std::string text{};
  Found found = Found::nothing_special;
};

/// The answer to a look.
struct Looked {
  enum class Guest : std::uint8_t {
    in_force,     ///< the livepatch of the plan is, and no transition runs
    pending,      ///< a transition runs, or an operation of vpatch
    absent,       ///< it is not in force, and nothing runs that would change that
    off,          ///< the domain does not run
    unreachable,  ///< it cannot be told
  };
  DomainId domain = 0;
  OperationId operation = 0;
  Guest guest = Guest::unreachable;
  std::string text{};
};

/// The answer to a health check.
struct HealthVerdict {
  enum class Health : std::uint8_t { pass, fail, inconclusive };
  DomainId domain = 0;
  OperationId operation = 0;
  Health health = Health::inconclusive;
  std::string text{};
};

/// Whatever ran over it may run on, and its answers will not come.
struct ConnectionLost {
  ConnectionId connection = 0;
  std::string text{};
};
/// For the first time, or again.
struct ConnectionUp {
  ConnectionId connection = 0;
};

/// Of an operator.
struct Command {
  enum class Kind : std::uint8_t {
    pause,     ///< nothing new; what is in flight ends
    resume,    ///< the failures so far are accepted, inconclusive domains are checked again
    abort,     ///< for good: nothing new, no rollback either
    rollback,  ///< also of a rollout that has ended or was aborted; tries failed reverts again
  };
  Kind kind = Kind::pause;
  std::string text{};  ///< who and why
};

std::string_view to_string(Command::Kind kind);
std::optional<Command::Kind> parse_command_kind(std::string_view word);

/// It is next_wake_up(), or the rollout begins.
struct Tick {};

using Event =
    std::variant<Finished, Looked, HealthVerdict, ConnectionLost, ConnectionUp, Command, Tick>;

enum class ActionKind : std::uint8_t {
  look,          ///< what is in force in the guest now? Answer: Looked
  apply,         ///< answer: Finished
  check_health,  ///< the plan's checks, and that the patch is in force. Answer: HealthVerdict
  revert,        ///< take it out and forget its registration; done too where neither was there, or
                 ///< where the domain is off. Answer: Finished
  cancel,        ///< end the operation: drop it when it is not begun, else as Ctrl-C would. Its own
                 ///< answer is still awaited
};

std::string_view to_string(ActionKind kind);

struct Action {
  ActionKind kind = ActionKind::look;
  DomainId domain = 0;
  OperationId operation = 0;  ///< of cancel: which

  friend bool operator==(const Action&, const Action&) = default;
};

}  // namespace vpatch::rollout
