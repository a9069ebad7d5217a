// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace vpatch {

/// How an operation ended. The values are the program's exit codes, part of its interface.
enum class Outcome : std::uint8_t {
  done = 0,
  usage = 2,              ///< wrong command line
  refused = 3,            ///< refused before the guest was touched
  stalled_reverted = 4,   ///< the transition stalled and was reversed
  stalled_waiting = 5,    ///< the transition stalled and was left pending, as asked
  unreachable = 6,        ///< guest or hypervisor unreachable
  failed_restored = 7,    ///< failed after a change; the guest is as it was before
  failed_needs_look = 8,  ///< failed, and the guest needs a look
  unrecorded = 9,         ///< done, but the journal does not hold all of it
  internal = 70,          ///< our own bug
};

/// A stable word for each, for --json: "done", "refused", "stalled-reverted", ...
constexpr std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::done:
      return "done";
    case Outcome::usage:
      return "usage";
    case Outcome::refused:
      return "refused";
    case Outcome::stalled_reverted:
      return "stalled-reverted";
    case Outcome::stalled_waiting:
      return "stalled-waiting";
    case Outcome::unreachable:
      return "unreachable";
    case Outcome::failed_restored:
      return "failed-restored";
    case Outcome::failed_needs_look:
      return "failed-needs-look";
    case Outcome::unrecorded:
      return "unrecorded";
    case Outcome::internal:
      break;
  }
  return "internal";
}

/// A failure as a value: what went wrong (and why), and what the user can do next.
struct Error {
  Outcome outcome = Outcome::internal;
  std::string what;    ///< one line, no final dot: "web01: no guest agent answers: ..."
  std::string hint{};  ///< the next step, a sentence; empty when there is none
  std::string id{};    ///< a stable word for programs, a finding's; mostly empty

  /// Puts the context of an outer step in front: "web01: deliver the file: <what>".
  Error&& in_context(const std::string& context) && {
    what.insert(0, context + ": ");
    return std::move(*this);
  }
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Outcome outcome, std::string what, std::string hint = {}) {
  return std::unexpected(Error{outcome, std::move(what), std::move(hint)});
}

/// The result of `function` on a value, or the error unchanged (std::expected::transform, which
/// g++-12 lacks).
template <class T, class Function>
auto map(Result<T> result, const Function& function)
    -> Result<decltype(function(*std::move(result)))> {
  if (!result) {
    return std::unexpected(std::move(result.error()));
  }
  return function(*std::move(result));
}

}  // namespace vpatch
